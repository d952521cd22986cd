// Package names holds what the parts of the mesh in a cluster call things, so that they find each other: labels, annotations, containers, ports, objects and the files in them.
package names

// Domain is the prefix of our labels and annotations.
const Domain = "meshtest.dev"

// Labels.
const (
	LabelRun    = Domain + "/run"    // id of the run that created the object
	LabelInject = Domain + "/inject" // Enabled on a namespace: its pods get a sidecar; Disabled on a pod: not this one
	LabelRole   = Domain + "/role"   // what a pod of the mesh itself is

	Enabled  = "enabled"
	Disabled = "disabled"

	RoleControl = "control"
	RoleGateway = "gateway"
	RoleLoad    = "load"
)

// Annotations of objects.
const (
	AnnotationExpires = Domain + "/expires" // RFC 3339; later than that the object is nobody's, and may be removed
	AnnotationAdopted = Domain + "/adopted" // on a namespace that was there before the run: only its marks are the run's
	AnnotationStatus  = Domain + "/status"  // on a pod: it has a sidecar, of this version of the template
)

// Annotations of a pod, or of a workload's template, that keep traffic away from the sidecar. Values are lists, separated by commas.
const (
	AnnotationExcludeInboundPorts  = Domain + "/exclude-inbound-ports"  // ports of the pod
	AnnotationExcludeOutboundPorts = Domain + "/exclude-outbound-ports" // ports elsewhere
	AnnotationExcludeOutboundCIDRs = Domain + "/exclude-outbound-cidrs" // addresses elsewhere
	AnnotationExcludeUIDs          = Domain + "/exclude-uids"           // users of the pod whose traffic out is left alone
)

// What Istio calls the same; it is honoured as well.
const (
	IstioInject                 = "sidecar.istio.io/inject" // label or annotation; "false" opts a pod out
	IstioExcludeInboundPorts    = "traffic.sidecar.istio.io/excludeInboundPorts"
	IstioExcludeOutboundPorts   = "traffic.sidecar.istio.io/excludeOutboundPorts"
	IstioExcludeOutboundIPRange = "traffic.sidecar.istio.io/excludeOutboundIPRanges"
)

// Annotations that a Prometheus with the customary configuration follows.
const (
	AnnotationScrape     = "prometheus.io/scrape"
	AnnotationScrapePort = "prometheus.io/port"
	AnnotationScrapePath = "prometheus.io/path"
)

// Containers that injection adds to a pod, and the user and group that the sidecar runs as.
const (
	ContainerCapture = "meshtest-capture"
	ContainerSidecar = "meshtest-sidecar"

	UID = 1337
)

// Ports. The numbers are Istio's where Istio has the same.
const (
	PortAdmin    = 15000 // in a pod, on 127.0.0.1: the sidecar's administration
	PortOutbound = 15001 // in a pod: captured connections of the application
	PortInbound  = 15006 // in a pod: captured connections to the application
	PortDirect   = 15009 // in a pod, on 127.0.0.1: leases and evidence
	PortControl  = 15012 // control plane: sidecars and the run
	PortMonitor  = 15014 // control plane: metrics
	PortWebhook  = 15017 // control plane: injection
	PortMetrics  = 15020 // in a pod: metrics, at /metrics and PathMetrics
	PortReady    = 15021 // in a pod and of the control plane: PathReady
	PortLoad     = 15030 // in the load agent's pod, on 127.0.0.1

	PathMetrics = "/stats/prometheus"
	PathReady   = "/healthz/ready"
	PathInject  = "/inject" // of the webhook
)

// Objects of the run's system namespace.
const (
	Control = "meshtest-control" // Deployment, Service, ServiceAccount, Secret and Lease of the control plane; the audience of sidecars' tokens too
	Gateway = "meshtest-gateway" // Deployment, Service and ServiceAccount
	Load    = "meshtest-load"    // Deployment, ServiceAccount and Secret of the load agent
	Rules   = "meshtest-rules"   // Secret: the overlay of the run's owner
	CA      = "meshtest-ca"      // ConfigMap in every namespace with sidecars

	Audience = Control // for which sidecars' tokens are made
)

// Where secrets are mounted, and the names of files and keys.
const (
	SecretsDir = "/var/run/secrets/meshtest.dev" // a sidecar's token and authority, the control plane's secret, the load agent's token

	KeyToken       = "token"        // a sidecar's service account token
	KeyCA          = "ca.crt"       // whom a sidecar believes to be the control plane
	KeyOwnerToken  = "owner-token"  // of the run, at the control plane
	KeyInstanceKey = "instance-key" // from which tokens of single instances are derived
	KeyLoadToken   = "token"        // of the run, at the load agent
	KeyRules       = "overlay.gz"   // gzipped JSON
)

// SystemNamespace is where the mesh of a run stands.
func SystemNamespace(run string) string { return "meshtest-" + run }
