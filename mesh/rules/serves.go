package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/gatewayapi"
	"meshtest.dev/meshtest/mesh/istio"
)

// Wanted is what somebody says about the host that a listener is for.
type Wanted struct {
	Host    string // by name
	Gateway string // NAME, or NAMESPACE/NAME; not with a host
	Port    int    // 0: nobody says
	Likely  []int  // when nobody says and there are several: the first of these that there is
}

// Serves is the host and port that every request to a listener is for, whatever its authority says: the host or the gateway that is wanted, or else the only gateway, or where there is none the only host. It is
// empty when the authority has to say it.
func (c *Compiled) Serves(w Wanted) (string, mesh.Port, error) {
	host, hosts := "", c.Hosts()
	switch {
	case w.Gateway != "":
		i := slices.IndexFunc(c.Gateways, func(h string) bool {
			name, namespace, _ := GatewayName(h)
			return w.Gateway == namespace+"/"+name || w.Gateway == name && namespace == mesh.DefaultNamespace
		})
		if i < 0 {
			return "", mesh.Port{}, fmt.Errorf("the rules have no gateway %q: %s", w.Gateway, listed(c.Gateways))
		}
		host = c.Gateways[i]
	case w.Host != "":
		if host = mesh.Resolve(w.Host, mesh.DefaultNamespace); c.Snapshot.Services[host] == nil {
			return "", mesh.Port{}, fmt.Errorf("the rules have no host %q: %s", w.Host, listed(hosts))
		}
	case len(c.Gateways) == 1:
		host = c.Gateways[0]
	case len(hosts) == 1 && len(c.Gateways) == 0:
		host = hosts[0]
	default:
		return "", mesh.Port{}, nil
	}
	port, err := w.PortOf(c.Snapshot.Services[host])
	return host, port, err
}

// GatewayName is what users call the gateway whose pseudo host it is, Istio's or the Gateway API's; ok is false for any other host.
func GatewayName(host string) (name, namespace string, ok bool) {
	if name, namespace, ok = istio.GatewayName(host); ok {
		return name, namespace, true
	}
	return gatewayapi.GatewayName(host)
}

// Called is what users call a host, the pseudo host of a gateway included.
func Called(host string) string {
	switch name, namespace, ok := GatewayName(host); {
	case !ok:
		return mesh.LogicalName(host)
	case namespace == mesh.DefaultNamespace:
		return name
	default:
		return namespace + "/" + name
	}
}

// listed is what there is instead of what was asked for.
func listed(hosts []string) string {
	names := make([]string, len(hosts))
	for i, host := range hosts {
		names[i] = Called(host)
	}
	return cmp.Or(strings.Join(names, ", "), "they have none")
}

// Hosts are the hosts that are no gateways, sorted.
func (c *Compiled) Hosts() []string {
	var hosts []string
	for h := range c.Snapshot.Services {
		if !slices.Contains(c.Gateways, h) {
			hosts = append(hosts, h)
		}
	}
	slices.Sort(hosts)
	return hosts
}

// PortOf is the port of a service that is wanted.
func (w Wanted) PortOf(svc *mesh.Service) (mesh.Port, error) {
	likely := w.Likely
	switch {
	case w.Port != 0:
		likely = []int{w.Port}
	case len(svc.Ports) == 1:
		return svc.Ports[0], nil
	}
	for _, number := range likely {
		for _, p := range svc.Ports {
			if p.Number == number {
				return p, nil
			}
		}
	}
	var numbers []string
	for _, p := range svc.Ports {
		numbers = append(numbers, strconv.Itoa(p.Number))
	}
	name := Called(svc.Host)
	switch {
	case len(numbers) == 0:
		return mesh.Port{}, fmt.Errorf("%s has no ports", name)
	case w.Port != 0:
		return mesh.Port{}, fmt.Errorf("%s has no port %d: name one of %s behind a colon", name, w.Port, strings.Join(numbers, ", "))
	default:
		return mesh.Port{}, fmt.Errorf("%s has the ports %s: name one of them behind a colon", name, strings.Join(numbers, ", "))
	}
}
