package istio

import "strings"

// gatewaySuffix ends the pseudo hosts of gateways. It is no domain of any service.
const gatewaySuffix = ".gateway"

// GatewayHost is the pseudo host under which a Gateway's compiled rules stand: the table of each of its ports is Routes[mesh.HostPort(GatewayHost, port)], and the
// ports are those of Services[GatewayHost]. An edge whose outbound port leads to that host and port serves the Gateway.
func GatewayHost(name, namespace string) string { return name + "." + namespace + gatewaySuffix }

// GatewayName is the inverse of [GatewayHost]; ok is false for any other host.
func GatewayName(host string) (name, namespace string, ok bool) {
	rest, ok := strings.CutSuffix(host, gatewaySuffix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ".")
}
