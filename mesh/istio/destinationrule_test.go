package istio_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"meshtest.dev/meshtest/mesh"
	"meshtest.dev/meshtest/mesh/istio"
)

// policyRule is a DestinationRule for reviews with a traffic policy, in YAML's flow style.
func policyRule(policy string) string {
	return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec: {host: reviews, trafficPolicy: " + policy + "}"
}

func TestTrafficPolicies(t *testing.T) {
	t.Parallel()
	chain, key := certificate(t)
	files := folder{"cert.pem": chain, "key.pem": key, "ca.pem": chain}
	hash := func(b mesh.Balancer, h mesh.HashPolicy) mesh.TrafficPolicy {
		return mesh.TrafficPolicy{Balancer: b, Hash: &h}
	}
	for text, want := range map[string]mesh.TrafficPolicy{
		"{loadBalancer: {simple: ROUND_ROBIN}}":   {Balancer: mesh.RoundRobin},
		"{loadBalancer: {simple: RANDOM}}":        {Balancer: mesh.Random},
		"{loadBalancer: {simple: LEAST_REQUEST}}": {Balancer: mesh.LeastRequest},
		"{loadBalancer: {simple: LEAST_CONN}}":    {Balancer: mesh.LeastRequest},
		"{loadBalancer: {}}":                      {},

		"{loadBalancer: {consistentHash: {httpHeaderName: X-User}}}":                                          hash(mesh.RingHash, mesh.HashPolicy{Header: "x-user"}),
		"{loadBalancer: {consistentHash: {httpQueryParameterName: User, ringHash: {minimumRingSize: 4096}}}}": hash(mesh.RingHash, mesh.HashPolicy{Query: "User", MinRingSize: 4096}),
		"{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 2048}}}":                        hash(mesh.RingHash, mesh.HashPolicy{SourceIP: true, MinRingSize: 2048}),
		"{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 251}}}}":                     hash(mesh.Maglev, mesh.HashPolicy{SourceIP: true, TableSize: 251}),
		"{loadBalancer: {consistentHash: {httpCookie: {name: user}}}}":                                        hash(mesh.RingHash, mesh.HashPolicy{Cookie: &mesh.HashCookie{Name: "user"}}),
		"{loadBalancer: {consistentHash: {httpCookie: {name: user, path: /a, ttl: 10s}}}}":                    hash(mesh.RingHash, mesh.HashPolicy{Cookie: &mesh.HashCookie{Name: "user", Path: "/a", TTL: 10 * time.Second}}),
		"{loadBalancer: {consistentHash: {httpCookie: {name: user, ttl: 0s}}}}":                               hash(mesh.RingHash, mesh.HashPolicy{Cookie: &mesh.HashCookie{Name: "user", Session: true}}),

		"{loadBalancer: {warmupDurationSecs: 60s}}": {Warmup: &mesh.Warmup{Duration: time.Minute}},
		"{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 5, aggression: 2}}}": {
			Balancer: mesh.RoundRobin, Warmup: &mesh.Warmup{Duration: 30 * time.Second, MinPercent: 5, Aggression: 2}},

		"{connectionPool: {tcp: {connectTimeout: 3s, maxConnections: 7, idleTimeout: 4s, maxConnectionDuration: 1h}}}": {
			ConnectTimeout: 3 * time.Second, Pool: mesh.ConnectionPool{MaxConnections: 7, IdleTimeout: 4 * time.Second, MaxDuration: time.Hour}},
		"{connectionPool: {tcp: {idleTimeout: 4s}, http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4, idleTimeout: 5s, h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 6}}}": {
			Pool: mesh.ConnectionPool{MaxPending: 1, MaxRequests: 2, MaxRequestsPerConnection: 3, MaxRetries: 4, IdleTimeout: 5 * time.Second, H2Upgrade: true, MaxConcurrentStreams: 6}},
		"{connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}": {},

		"{outlierDetection: {}}":                        {Outlier: &mesh.OutlierDetection{}},
		"{outlierDetection: {consecutive5xxErrors: 0}}": {Outlier: &mesh.OutlierDetection{Consecutive5xx: -1}},
		"{outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 3, interval: 1s, baseEjectionTime: 2s, maxEjectionPercent: 100, minHealthPercent: 30, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 4}}": {
			Outlier: &mesh.OutlierDetection{Consecutive5xx: 7, ConsecutiveGateway: 3, Interval: time.Second, BaseEjection: 2 * time.Second, MaxEjectionPercent: 100, MinHealthPercent: 30,
				SplitLocalOrigin: true, ConsecutiveLocalFailures: 4}},

		"{tls: {mode: DISABLE}}":                          {},
		"{tls: {mode: SIMPLE}}":                           {TLS: &mesh.ClientTLS{Mode: mesh.SimpleTLS}},
		"{tls: {mode: SIMPLE, insecureSkipVerify: true}}": {TLS: &mesh.ClientTLS{Mode: mesh.SimpleTLS, Insecure: true}},
		"{tls: {mode: SIMPLE, caCertificates: system}}":   {TLS: &mesh.ClientTLS{Mode: mesh.SimpleTLS}},
		"{tls: {mode: SIMPLE, sni: a.example.com, subjectAltNames: [b.example.com], caCertificates: ca.pem}}": {
			TLS: &mesh.ClientTLS{Mode: mesh.SimpleTLS, SNI: "a.example.com", Names: []string{"b.example.com"}, Roots: chain}},
		"{tls: {mode: MUTUAL, clientCertificate: cert.pem, privateKey: key.pem}}": {TLS: &mesh.ClientTLS{Mode: mesh.MutualTLS, Chain: chain, PrivateKey: key}},
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			rules, problems := istio.Compile(documents(t, policyRule(text)), known(), mesh.DefaultNamespace, istio.Files(files.read))
			require.Empty(t, problems)
			require.Equal(t, want, rules.Services[reviews].Traffic)
		})
	}
}

// A part of a policy that a subset or a later document has replaces the other's as a whole; a part that it does not have stays.
func TestPartsOfPoliciesOverride(t *testing.T) {
	t.Parallel()
	services := known()
	services[reviews].Traffic = mesh.TrafficPolicy{
		Balancer: mesh.RoundRobin, Warmup: &mesh.Warmup{Duration: time.Second}, Outlier: &mesh.OutlierDetection{}, TLS: &mesh.ClientTLS{Mode: mesh.SimpleTLS},
		HealthCheck: &mesh.HealthCheck{TCP: true, Interval: time.Second}, Pool: mesh.ConnectionPool{MaxConnections: 3},
	}
	rules, problems := istio.Compile(documents(t, "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: x}\nspec:\n  host: reviews\n"+
		"  trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}, tls: {mode: DISABLE}}\n"+
		"  subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {simple: RANDOM}, connectionPool: {http: {maxRetries: 1}}}}]"), services, mesh.DefaultNamespace)
	require.Empty(t, problems)
	want := services[reviews].Traffic
	want.Balancer, want.Warmup, want.Hash, want.TLS = mesh.RingHash, nil, &mesh.HashPolicy{SourceIP: true}, nil
	require.Equal(t, want, rules.Services[reviews].Traffic)
	want.Balancer, want.Hash, want.Pool = mesh.Random, nil, mesh.ConnectionPool{MaxRetries: 1}
	require.Equal(t, &want, rules.Services[reviews].Subsets[0].Traffic)
}

func TestTrafficPoliciesThatIstioRefuses(t *testing.T) {
	t.Parallel()
	chain, key := certificate(t)
	files := folder{"cert.pem": chain, "key.pem": key, "empty.pem": ""}
	const lb, hash, pool, outlier, tls = "loadBalancer", "loadBalancer.consistentHash", "connectionPool", "outlierDetection", "tls"
	invalid := func(path, message string) string {
		return "MT1307 spec.trafficPolicy." + path + ": " + message
	}
	for text, want := range map[string]string{
		"{loadBalancer: {consistentHash: {}}}":                                                        invalid(hash, "one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName is needed"),
		"{loadBalancer: {consistentHash: {useSourceIp: false}}}":                                      invalid(hash, "one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName is needed"),
		"{loadBalancer: {consistentHash: {httpCookie: {path: /}}}}":                                   invalid(hash+".httpCookie", `the field "name" is missing`),
		"{loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}":                    invalid(hash+".httpHeaderName", "useSourceIp and httpHeaderName cannot both be set"),
		"{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {}}}}":                           invalid(hash+".maglev.tableSize", "must be a prime below 5000011"),
		"{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 256}}}}":             invalid(hash+".maglev.tableSize", "must be a prime below 5000011"),
		"{loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}}}":         invalid(hash+".maglev.tableSize", "must be a prime below 5000011"),
		"{loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 8388609}}}}": invalid(hash+".ringHash.minimumRingSize", "must be at most 8388608"),
		"{loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 1, ringHash: {}}}}":     invalid(hash+".minimumRingSize", "minimumRingSize and an algorithm cannot both be set"),
		"{loadBalancer: {simple: RANDOM, warmupDurationSecs: 1s}}":                                    invalid(lb, "only LEAST_REQUEST and ROUND_ROBIN warm endpoints up"),
		"{loadBalancer: {consistentHash: {useSourceIp: true}, warmup: {duration: 1s}}}":               invalid(lb, "only LEAST_REQUEST and ROUND_ROBIN warm endpoints up"),
		"{loadBalancer: {warmup: {duration: 1s}, warmupDurationSecs: 1s}}":                            invalid(lb+".warmup", "warmup and warmupDurationSecs cannot both be set"),
		"{loadBalancer: {warmup: {}}}":                                                                invalid(lb+".warmup", `the field "duration" is missing`),
		"{loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}}":                               invalid(lb+".warmup.minimumPercent", "must be from 0 to 100"),
		"{loadBalancer: {warmup: {duration: 1s, minimumPercent: 0}}}":                                 "MT1303 spec.trafficPolicy.loadBalancer.warmup.minimumPercent: a warm-up that begins with nothing is not honoured",
		"{loadBalancer: {warmup: {duration: 1s, aggression: 0.5}}}":                                   invalid(lb+".warmup.aggression", "must be at least 1"),
		"{loadBalancer: {warmup: {duration: 1us}}}":                                                   invalid(lb+".warmup.duration", "must be at least 1ms"),
		"{connectionPool: {}}":                                                    invalid(pool, "tcp or http is needed"),
		"{connectionPool: {tcp: {maxConnections: -1}}}":                           invalid(pool+".tcp.maxConnections", "must not be negative"),
		"{connectionPool: {http: {maxRetries: -1}}}":                              invalid(pool+".http.maxRetries", "must not be negative"),
		"{connectionPool: {http: {idleTimeout: 0s}}}":                             invalid(pool+".http.idleTimeout", "must be at least 1ms"),
		"{connectionPool: {tcp: {idleTimeout: 0s}}}":                              "MT1303 spec.trafficPolicy.connectionPool.tcp.idleTimeout: a connection that may lie unused for ever is not honoured",
		"{outlierDetection: {maxEjectionPercent: 101}}":                           invalid(outlier+".maxEjectionPercent", "must be from 0 to 100"),
		"{outlierDetection: {minHealthPercent: -1}}":                              invalid(outlier+".minHealthPercent", "must be from 0 to 100"),
		"{outlierDetection: {interval: 0s}}":                                      invalid(outlier+".interval", "must be at least 1ms"),
		"{outlierDetection: {baseEjectionTime: 0s}}":                              invalid(outlier+".baseEjectionTime", "must be at least 1ms"),
		"{outlierDetection: {consecutiveLocalOriginFailures: 1}}":                 invalid(outlier+".consecutiveLocalOriginFailures", "failures of local origin are not counted by themselves"),
		"{tls: {sni: a}}":                                                         invalid(tls, "there is no TLS with the mode DISABLE, and this says how"),
		"{tls: {mode: SIMPLE, privateKey: key.pem}}":                              invalid(tls, "a certificate of the client is only shown with the mode MUTUAL"),
		"{tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]}}":   invalid(tls+".insecureSkipVerify", "any certificate is taken: caCertificates and subjectAltNames cannot be set"),
		"{tls: {mode: SIMPLE, caCertificates: empty.pem}}":                        invalid(tls+".caCertificates", "there is no certificate in empty.pem"),
		"{tls: {mode: SIMPLE, caCertificates: gone.pem}}":                         "MT1305 spec.trafficPolicy.tls.caCertificates: reading gone.pem: file does not exist",
		"{tls: {mode: MUTUAL, clientCertificate: cert.pem}}":                      invalid(tls, `the field "privateKey" is missing`),
		"{tls: {mode: MUTUAL, clientCertificate: key.pem, privateKey: cert.pem}}": invalid(tls+".clientCertificate", "the certificate and its key cannot be used: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched"),
		"{tls: {mode: ISTIO_MUTUAL}}":                                             "MT1303 spec.trafficPolicy.tls.mode: the mode ISTIO_MUTUAL is not honoured yet",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			_, problems := istio.Compile(documents(t, policyRule(text)), known(), mesh.DefaultNamespace, istio.Files(files.read))
			require.Len(t, problems, 1)
			require.Equal(t, want, fmt.Sprintf("%s %s: %s", problems[0].Code, problems[0].Path, problems[0].Message))
			require.Equal(t, 4, problems[0].Line)
		})
	}
}

func TestFilesAreRefusedUnlessTheCallerReadsThem(t *testing.T) {
	t.Parallel()
	_, problems := istio.Compile(documents(t, policyRule("{tls: {mode: SIMPLE, caCertificates: /etc/passwd}}")), known(), mesh.DefaultNamespace)
	require.Len(t, problems, 1)
	require.Equal(t, istio.CodeReference, problems[0].Code)
	require.Equal(t, "no files can be read here", problems[0].Message)
}
