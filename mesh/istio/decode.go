package istio

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"meshtest.dev/meshtest/mesh/document"
)

// honoured lists, for each of Istio's messages, the fields that mesh rules can carry out. A message that is not listed is honoured as a whole.
var honoured = map[protoreflect.Name][]string{
	"VirtualService":       {"hosts", "gateways", "http", "tls", "tcp", "exportTo"},
	"HTTPRoute":            {"name", "match", "route", "redirect", "directResponse", "rewrite", "timeout", "retries", "mirror", "mirrors", "mirrorPercent", "mirrorPercentage", "corsPolicy", "headers"},
	"HTTPMatchRequest":     {"name", "uri", "scheme", "method", "authority", "headers", "port", "sourceLabels", "sourceNamespace", "gateways", "queryParams", "ignoreUriCase", "withoutHeaders"},
	"TLSMatchAttributes":   {"sniHosts", "port", "sourceLabels", "sourceNamespace", "gateways"},
	"L4MatchAttributes":    {"port", "sourceLabels", "sourceNamespace", "gateways"},
	"DestinationRule":      {"host", "trafficPolicy", "subsets"},
	"TrafficPolicy":        {"loadBalancer", "connectionPool", "outlierDetection", "tls"},
	"LoadBalancerSettings": {"simple", "consistentHash", "warmup", "warmupDurationSecs"},
	"HTTPCookie":           {"name", "path", "ttl"},
	"TCPSettings":          {"maxConnections", "connectTimeout", "idleTimeout", "maxConnectionDuration"},
	"HTTPSettings":         {"http1MaxPendingRequests", "http2MaxRequests", "maxRequestsPerConnection", "maxRetries", "idleTimeout", "h2UpgradePolicy", "maxConcurrentStreams"},
	"OutlierDetection":     {"splitExternalLocalOriginErrors", "consecutiveLocalOriginFailures", "consecutiveGatewayErrors", "consecutive5xxErrors", "interval", "baseEjectionTime", "maxEjectionPercent", "minHealthPercent"},
	"ClientTLSSettings":    {"mode", "clientCertificate", "privateKey", "caCertificates", "subjectAltNames", "sni", "insecureSkipVerify"},
	"Gateway":              {"servers", "selector"},
	"Server":               {"name", "port", "hosts", "tls"},
	"ServerTLSSettings":    {"httpsRedirect", "mode", "serverCertificate", "privateKey", "caCertificates", "credentialName", "minProtocolVersion"},
	"Port":                 {"name", "number", "protocol"},
	"ServiceEntry":         {"hosts", "addresses", "ports", "location", "resolution", "endpoints", "exportTo", "subjectAltNames"},
	"WorkloadEntry":        {"address", "ports", "labels", "network", "locality", "weight"},
}

// insteadOf says what does the work of a field that is not honoured, where something does.
var insteadOf = map[string]string{
	"delegate": "put its routes here",
	"fault":    "faults are a scenario's (`faults:`), where they end by themselves and are accounted for; rules that are served alone have to do without",
	"exportTo": "every rule holds for every caller",

	"consecutiveErrors": "Istio ignores it, too: consecutive5xxErrors or consecutiveGatewayErrors",
	"portLevelSettings": "the policy of the host, which holds for all its ports",
	"retryBudget":       "retries of the routes, and maxRetries",
}

// Short names for what all readers of documents share.
var join, index, resolve, kindName = document.Join, document.Index, document.Resolve, document.KindName

// decoder reads one document into Istio's messages.
type decoder struct{ *document.Reporter }

func newDecoder(doc Document) *decoder { return &decoder{document.NewReporter(doc)} }

// message fills a message from a mapping. Each field is set only when it exists, is honoured and has a value of its type; everything else is a problem.
func (d *decoder) message(n *yaml.Node, m protoreflect.Message, path string) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		d.At(n, CodeType, path, "", "must be a mapping, not %s", kindName(n))
		return
	}
	desc := m.Descriptor()
	oneofs, seen := map[protoreflect.Name]string{}, map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		where := join(path, key.Value)
		f := desc.Fields().ByJSONName(key.Value)
		known := honouredFields(desc)
		switch {
		case seen[key.Value]:
			d.At(key, CodeConflict, where, "remove one of them", "%q is there twice", key.Value)
			continue
		case f == nil:
			d.Unknown(CodeUnknown, key, where, known)
			continue
		case !slices.Contains(known, key.Value):
			hint := insteadOf[key.Value]
			if hint == "" {
				hint = "honoured here: " + strings.Join(known, ", ")
			}
			d.At(key, CodeNotHonoured, where, hint, "%s is not honoured yet", key.Value)
			continue
		}
		seen[key.Value] = true
		if one := f.ContainingOneof(); one != nil && !one.IsSynthetic() {
			if other := oneofs[one.Name()]; other != "" {
				d.At(key, CodeInvalid, where, "remove one of them", "%s and %s cannot both be set", other, key.Value)
				continue
			}
			oneofs[one.Name()] = key.Value
		}
		d.Nodes[where] = value
		d.field(value, m, f, where)
	}
}

// honouredFields are the JSON names of a message's fields that are honoured.
func honouredFields(desc protoreflect.MessageDescriptor) []string {
	if names, ok := honoured[desc.Name()]; ok {
		return names
	}
	var names []string
	for i := range desc.Fields().Len() {
		names = append(names, desc.Fields().Get(i).JSONName())
	}
	return names
}

func (d *decoder) field(n *yaml.Node, m protoreflect.Message, f protoreflect.FieldDescriptor, path string) {
	n = resolve(n)
	switch {
	case f.IsList():
		if n.Kind != yaml.SequenceNode {
			d.At(n, CodeType, path, "", "must be a list, not %s", kindName(n))
			return
		}
		list := m.Mutable(f).List()
		for i, e := range n.Content {
			where := index(path, i)
			d.Nodes[where] = e
			v := list.NewElement() // appended even when it is wrong, so that indices stay those of the document
			if d.value(e, &v, f, where) || f.Kind() == protoreflect.MessageKind {
				list.Append(v)
			} else {
				list.Append(list.NewElement())
			}
		}
	case f.IsMap():
		if n.Kind != yaml.MappingNode {
			d.At(n, CodeType, path, "", "must be a mapping, not %s", kindName(n))
			return
		}
		entries := m.Mutable(f).Map()
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			where := join(path, key.Value)
			d.Nodes[where] = value
			v := entries.NewValue()
			if d.value(value, &v, f.MapValue(), where) {
				entries.Set(protoreflect.ValueOfString(key.Value).MapKey(), v)
			}
		}
	default:
		v := m.NewField(f)
		if d.value(n, &v, f, path) {
			m.Set(f, v)
		}
	}
}

// value reads one value, an element of a list or a map included, and reports whether it has its type.
func (d *decoder) value(n *yaml.Node, v *protoreflect.Value, f protoreflect.FieldDescriptor, path string) bool {
	n = resolve(n)
	if inner := wrapped(f); inner != nil {
		var word protoreflect.Value
		if !d.value(n, &word, inner, path) {
			return false
		}
		v.Message().Set(inner, word)
		return true
	}
	if f.Kind() == protoreflect.MessageKind && f.Message().FullName() != "google.protobuf.Duration" {
		before := len(d.Problems)
		d.message(n, v.Message(), path)
		return len(d.Problems) == before
	}
	what, ok := scalarValue(n, v, f)
	if !ok {
		hint := ""
		if what == "text" && n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
			hint = "put it in quotes"
		}
		d.At(n, CodeType, path, hint, "must be %s, not %s", what, kindName(n))
	}
	return ok
}

// wrapped is the field with the word of a message that is written as one, such as a BoolValue, which can be missing; nil for any other field.
func wrapped(f protoreflect.FieldDescriptor) protoreflect.FieldDescriptor {
	if f.Kind() != protoreflect.MessageKind || f.Message().ParentFile().Path() != "google/protobuf/wrappers.proto" {
		return nil
	}
	return f.Message().Fields().ByName("value")
}

// scalarValue reads one word. It returns what the field needs, with its article, and whether the node is that.
func scalarValue(n *yaml.Node, v *protoreflect.Value, f protoreflect.FieldDescriptor) (what string, ok bool) {
	is := func(tags ...string) bool { return n.Kind == yaml.ScalarNode && slices.Contains(tags, n.Tag) }
	switch f.Kind() {
	case protoreflect.StringKind:
		*v = protoreflect.ValueOfString(n.Value)
		return "text", is("!!str")
	case protoreflect.BytesKind:
		b, err := base64.StdEncoding.DecodeString(n.Value)
		*v = protoreflect.ValueOfBytes(b)
		return "base64 text", is("!!str") && err == nil
	case protoreflect.BoolKind:
		*v = protoreflect.ValueOfBool(strings.EqualFold(n.Value, "true"))
		return "true or false", is("!!bool")
	case protoreflect.Int32Kind:
		i, err := strconv.ParseInt(n.Value, 10, 32)
		*v = protoreflect.ValueOfInt32(int32(i))
		return "a whole number", is("!!int") && err == nil
	case protoreflect.Uint32Kind:
		i, err := strconv.ParseUint(n.Value, 10, 32)
		*v = protoreflect.ValueOfUint32(uint32(i))
		return "a whole number, not negative", is("!!int") && err == nil
	case protoreflect.Uint64Kind:
		i, err := strconv.ParseUint(n.Value, 10, 64)
		*v = protoreflect.ValueOfUint64(i)
		return "a whole number, not negative", is("!!int") && err == nil
	case protoreflect.DoubleKind:
		x, err := strconv.ParseFloat(n.Value, 64)
		*v = protoreflect.ValueOfFloat64(x)
		return "a number", is("!!int", "!!float") && err == nil && !math.IsNaN(x) && !math.IsInf(x, 0)
	case protoreflect.EnumKind:
		e := f.Enum().Values().ByName(protoreflect.Name(n.Value))
		if e != nil {
			*v = protoreflect.ValueOfEnum(e.Number())
		}
		return "one of " + enumNames(f.Enum()), is("!!str") && e != nil
	case protoreflect.MessageKind: // a duration, in Go's form
		dur, err := time.ParseDuration(n.Value)
		*v = protoreflect.ValueOfMessage(durationpb.New(dur).ProtoReflect())
		return "a duration such as 250ms", is("!!str") && err == nil && dur >= 0
	default:
		return "something that is not supported", false
	}
}

func enumNames(e protoreflect.EnumDescriptor) string {
	var names []string
	for i := range e.Values().Len() {
		names = append(names, string(e.Values().Get(i).Name()))
	}
	return strings.Join(names, ", ")
}
