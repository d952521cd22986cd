package istio

import (
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"

	"meshtest.dev/meshtest/mesh"
)

// trafficPolicy overrides a policy with what a document says, part by part, as Istio does: a part that is there replaces the other as a whole.
func (c *compiler) trafficPolicy(o *object, path string, p *networking.TrafficPolicy, policy mesh.TrafficPolicy) mesh.TrafficPolicy {
	if p.GetLoadBalancer() != nil {
		loadBalancer(o, join(path, "loadBalancer"), p.GetLoadBalancer(), &policy)
	}
	if p.GetConnectionPool() != nil {
		connectionPool(o, join(path, "connectionPool"), p.GetConnectionPool(), &policy)
	}
	if p.GetOutlierDetection() != nil {
		policy.Outlier = outlierDetection(o, join(path, "outlierDetection"), p.GetOutlierDetection())
	}
	if p.GetTls() != nil {
		policy.TLS = c.clientTLS(o, join(path, "tls"), p.GetTls())
	}
	return policy
}

func loadBalancer(o *object, path string, lb *networking.LoadBalancerSettings, policy *mesh.TrafficPolicy) {
	policy.Balancer, policy.Hash, policy.Warmup = "", nil, nil
	if hash := lb.GetConsistentHash(); hash != nil {
		consistentHash(o, join(path, "consistentHash"), hash, policy)
	} else {
		policy.Balancer = simple(o, join(path, "simple"), lb.GetSimple())
	}
	policy.Warmup = warmup(o, path, lb)
	if policy.Warmup != nil && (policy.Balancer == mesh.Random || policy.Hash != nil) {
		o.Problem(CodeInvalid, path, "", "only LEAST_REQUEST and ROUND_ROBIN warm endpoints up")
	}
}

func simple(o *object, path string, simple networking.LoadBalancerSettings_SimpleLB) mesh.Balancer {
	switch simple {
	case networking.LoadBalancerSettings_UNSPECIFIED:
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		return mesh.RoundRobin
	case networking.LoadBalancerSettings_RANDOM:
		return mesh.Random
	//lint:ignore SA1019 users' documents still say LEAST_CONN
	case networking.LoadBalancerSettings_LEAST_REQUEST, networking.LoadBalancerSettings_LEAST_CONN:
		return mesh.LeastRequest
	default:
		o.Problem(CodeNotHonoured, path, "LEAST_REQUEST, ROUND_ROBIN or RANDOM", "%s is not honoured yet", simple)
	}
	return ""
}

// Bounds of Envoy (a ring) and of Istio's validation (a table, exclusively).
const (
	maxRingSize  = 8 << 20
	maxTableSize = 5_000_011
)

func consistentHash(o *object, path string, lb *networking.LoadBalancerSettings_ConsistentHashLB, policy *mesh.TrafficPolicy) {
	policy.Balancer, policy.Hash = mesh.RingHash, &mesh.HashPolicy{}
	hashKey(o, path, lb, policy.Hash)
	//lint:ignore SA1019 users' documents still say minimumRingSize here
	size, at := lb.GetMinimumRingSize(), join(path, "minimumRingSize")
	switch ring, table := lb.GetRingHash(), lb.GetMaglev(); {
	case size != 0 && (ring != nil || table != nil):
		o.Problem(CodeInvalid, at, "remove one of them", "minimumRingSize and an algorithm cannot both be set")
	case ring != nil:
		size, at = ring.GetMinimumRingSize(), join(path, "ringHash.minimumRingSize")
	case table != nil:
		policy.Balancer = mesh.Maglev
		policy.Hash.TableSize = tableSize(o, join(path, "maglev.tableSize"), table.GetTableSize())
		return
	}
	if size > maxRingSize {
		o.Problem(CodeInvalid, at, "", "must be at most %d", maxRingSize)
		return
	}
	policy.Hash.MinRingSize = int(size)
}

func tableSize(o *object, path string, size uint64) int {
	if size >= maxTableSize || !big.NewInt(int64(size)).ProbablyPrime(0) { // without error below 2^64
		o.Problem(CodeInvalid, path, "such as 65537", "must be a prime below %d", maxTableSize)
		return 0
	}
	return int(size)
}

// hashKey says by what of a request is hashed.
func hashKey(o *object, path string, lb *networking.LoadBalancerSettings_ConsistentHashLB, hash *mesh.HashPolicy) {
	switch key := lb.GetHashKey().(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		hash.Header = strings.ToLower(key.HttpHeaderName)
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		hash.Query = key.HttpQueryParameterName
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		hash.SourceIP = key.UseSourceIp
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		hash.Cookie = cookie(o, join(path, "httpCookie"), key.HttpCookie)
		return
	}
	if hash.Header == "" && hash.Query == "" && !hash.SourceIP {
		o.Problem(CodeInvalid, path, "", "one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName is needed")
	}
}

func cookie(o *object, path string, c *networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie) *mesh.HashCookie {
	if c.GetName() == "" {
		o.Problem(CodeInvalid, path, "", "the field %q is missing", "name")
	}
	ttl := c.GetTtl().AsDuration()
	return &mesh.HashCookie{Name: c.GetName(), Path: c.GetPath(), TTL: ttl, Session: c.GetTtl() != nil && ttl == 0}
}

// warmup reads slow start, in its present form or the one before.
func warmup(o *object, path string, lb *networking.LoadBalancerSettings) *mesh.Warmup {
	w, at := lb.GetWarmup(), join(path, "warmup")
	old := lb.GetWarmupDurationSecs()
	switch {
	case w == nil && old == nil:
		return nil
	case w != nil && old != nil:
		o.Problem(CodeInvalid, at, "remove one of them", "warmup and warmupDurationSecs cannot both be set")
	case w == nil:
		return &mesh.Warmup{Duration: o.atLeast1ms(join(path, "warmupDurationSecs"), old.AsDuration())}
	case w.GetDuration() == nil:
		o.Problem(CodeInvalid, at, "", "the field %q is missing", "duration")
		return nil
	}
	least, aggression := w.GetMinimumPercent().GetValue(), w.GetAggression().GetValue()
	switch {
	case w.GetMinimumPercent() == nil:
	case least < 0 || least > 100:
		o.Problem(CodeInvalid, join(at, "minimumPercent"), "", "must be from 0 to 100")
	case least == 0:
		o.Problem(CodeNotHonoured, join(at, "minimumPercent"), "a small share, such as 1", "a warm-up that begins with nothing is not honoured")
	}
	if w.GetAggression() != nil && aggression < 1 {
		o.Problem(CodeInvalid, join(at, "aggression"), "", "must be at least 1")
	}
	return &mesh.Warmup{Duration: o.atLeast1ms(join(at, "duration"), w.GetDuration().AsDuration()), MinPercent: least, Aggression: aggression}
}

func connectionPool(o *object, path string, p *networking.ConnectionPoolSettings, policy *mesh.TrafficPolicy) {
	policy.Pool, policy.ConnectTimeout = mesh.ConnectionPool{}, 0
	tcp, http := p.GetTcp(), p.GetHttp()
	if tcp == nil && http == nil {
		o.Problem(CodeInvalid, path, "", "tcp or http is needed")
	}
	count := func(field string, n int32) int {
		if n < 0 {
			o.Problem(CodeInvalid, join(path, field), "", "must not be negative")
		}
		return int(n)
	}
	duration := func(field string, d *durationpb.Duration) time.Duration {
		if d == nil {
			return 0
		}
		return o.atLeast1ms(join(path, field), d.AsDuration())
	}
	policy.ConnectTimeout = duration("tcp.connectTimeout", tcp.GetConnectTimeout())
	policy.Pool = mesh.ConnectionPool{
		MaxConnections:           count("tcp.maxConnections", tcp.GetMaxConnections()),
		MaxPending:               count("http.http1MaxPendingRequests", http.GetHttp1MaxPendingRequests()),
		MaxRequests:              count("http.http2MaxRequests", http.GetHttp2MaxRequests()),
		MaxRetries:               count("http.maxRetries", http.GetMaxRetries()),
		MaxRequestsPerConnection: count("http.maxRequestsPerConnection", http.GetMaxRequestsPerConnection()),
		MaxConcurrentStreams:     count("http.maxConcurrentStreams", http.GetMaxConcurrentStreams()),
		IdleTimeout:              duration("http.idleTimeout", http.GetIdleTimeout()),
		MaxDuration:              duration("tcp.maxConnectionDuration", tcp.GetMaxConnectionDuration()),
		H2Upgrade:                http.GetH2UpgradePolicy() == networking.ConnectionPoolSettings_HTTPSettings_UPGRADE,
	}
	if idle := tcp.GetIdleTimeout(); idle != nil && idle.AsDuration() == 0 {
		o.Problem(CodeNotHonoured, join(path, "tcp.idleTimeout"), "", "a connection that may lie unused for ever is not honoured")
	} else if own := duration("tcp.idleTimeout", idle); http.GetIdleTimeout() == nil {
		policy.Pool.IdleTimeout = own
	}
}

func outlierDetection(o *object, path string, d *networking.OutlierDetection) *mesh.OutlierDetection {
	out := &mesh.OutlierDetection{
		ConsecutiveGateway: int(d.GetConsecutiveGatewayErrors().GetValue()),
		SplitLocalOrigin:   d.GetSplitExternalLocalOriginErrors(), ConsecutiveLocalFailures: int(d.GetConsecutiveLocalOriginFailures().GetValue()),
		MaxEjectionPercent: o.percent(join(path, "maxEjectionPercent"), d.GetMaxEjectionPercent()), MinHealthPercent: o.percent(join(path, "minHealthPercent"), d.GetMinHealthPercent()),
	}
	if d.GetConsecutive_5XxErrors() != nil {
		out.Consecutive5xx = int(d.GetConsecutive_5XxErrors().GetValue())
		if out.Consecutive5xx == 0 {
			out.Consecutive5xx = -1 // Istio's word for off
		}
	}
	if out.ConsecutiveLocalFailures > 0 && !out.SplitLocalOrigin {
		o.Problem(CodeInvalid, join(path, "consecutiveLocalOriginFailures"), "splitExternalLocalOriginErrors: true", "failures of local origin are not counted by themselves")
	}
	if d.GetInterval() != nil {
		out.Interval = o.atLeast1ms(join(path, "interval"), d.GetInterval().AsDuration())
	}
	if d.GetBaseEjectionTime() != nil {
		out.BaseEjection = o.atLeast1ms(join(path, "baseEjectionTime"), d.GetBaseEjectionTime().AsDuration())
	}
	return out
}

func (o *object) percent(path string, n int32) int {
	if n < 0 || n > 100 {
		o.Problem(CodeInvalid, path, "", "must be from 0 to 100")
	}
	return int(n)
}

// systemRoots is Istio's word for the roots that the system trusts, which are also the default.
const systemRoots = "system"

// clientTLS says how TLS is spoken to endpoints; nil: it is not. Files are read by the caller's function.
func (c *compiler) clientTLS(o *object, path string, t *networking.ClientTLSSettings) *mesh.ClientTLS {
	out := &mesh.ClientTLS{SNI: t.GetSni(), Names: t.GetSubjectAltNames(), Insecure: t.GetInsecureSkipVerify().GetValue()}
	shows := t.GetClientCertificate()+t.GetPrivateKey() != ""
	switch t.GetMode() {
	case networking.ClientTLSSettings_DISABLE:
		if shows || t.GetCaCertificates() != "" || out.SNI != "" || out.Names != nil || out.Insecure {
			o.Problem(CodeInvalid, path, "mode: SIMPLE", "there is no TLS with the mode DISABLE, and this says how")
		}
		return nil
	case networking.ClientTLSSettings_SIMPLE:
		out.Mode = mesh.SimpleTLS
		if shows {
			o.Problem(CodeInvalid, path, "mode: MUTUAL", "a certificate of the client is only shown with the mode MUTUAL")
		}
	case networking.ClientTLSSettings_MUTUAL:
		out.Mode = mesh.MutualTLS
		out.Chain, out.PrivateKey = c.keyPair(o, path, t.GetClientCertificate(), t.GetPrivateKey())
	default:
		o.Problem(CodeNotHonoured, join(path, "mode"), "DISABLE, SIMPLE or MUTUAL", "the mode %s is not honoured yet", t.GetMode())
		return nil
	}
	if out.Insecure && (t.GetCaCertificates() != "" || out.Names != nil) {
		o.Problem(CodeInvalid, join(path, "insecureSkipVerify"), "remove one of them", "any certificate is taken: caCertificates and subjectAltNames cannot be set")
	}
	if name := t.GetCaCertificates(); name != "" && name != systemRoots {
		out.Roots = c.roots(o, join(path, "caCertificates"), name)
	}
	return out
}

// roots reads a file of certificates.
func (c *compiler) roots(o *object, path, name string) string {
	before := len(o.Problems)
	text := c.contents(o, path, name)
	if len(o.Problems) == before && !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		o.Problem(CodeInvalid, path, "in PEM", "there is no certificate in %s", name)
	}
	return text
}

// keyPair reads the files of a certificate and its key.
func (c *compiler) keyPair(o *object, path, chainName, keyName string) (chain, key string) {
	before := len(o.Problems)
	for _, file := range []struct {
		field, name string
		text        *string
	}{{"clientCertificate", chainName, &chain}, {"privateKey", keyName, &key}} {
		if file.name == "" {
			o.Problem(CodeInvalid, path, "", "the field %q is missing", file.field)
			continue
		}
		*file.text = c.contents(o, join(path, file.field), file.name)
	}
	if len(o.Problems) > before {
		return "", ""
	}
	if _, err := tls.X509KeyPair([]byte(chain), []byte(key)); err != nil {
		o.Problem(CodeInvalid, join(path, "clientCertificate"), "both in PEM", "the certificate and its key cannot be used: %s", strings.TrimPrefix(err.Error(), "tls: "))
	}
	return chain, key
}
