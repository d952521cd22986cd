package gatewayapi

// The specs of the documents, as far as they are read. The tags say what the decoder demands of a field: its name in a document, whether it is required, what it defaults to, its words, and the bounds of
// a number or of the length of a list. A test compares the fields with those of the published types.

type gatewaySpec struct {
	Class            string     `api:"gatewayClassName,required"`
	Listeners        []listener `api:"listeners,required" min:"1" max:"64"`
	Addresses        unhonoured `api:"addresses" hint:"the address is that of the mesh's own edge"`
	Infrastructure   unhonoured `api:"infrastructure" hint:"the edge is the mesh's own: nothing is made for a Gateway"`
	AllowedListeners unhonoured `api:"allowedListeners"`
	TLS              unhonoured `api:"tls"`
	DefaultScope     unhonoured `api:"defaultScope" hint:"name the Gateway in the routes' parentRefs"`
}

type listener struct {
	Name          string         `api:"name,required"`
	Hostname      *string        `api:"hostname"`
	Port          int32          `api:"port,required" min:"1" max:"65535"`
	Protocol      string         `api:"protocol,required"`
	TLS           unhonoured     `api:"tls"`
	AllowedRoutes *allowedRoutes `api:"allowedRoutes"`
}

type allowedRoutes struct {
	Namespaces *routeNamespaces `api:"namespaces"`
	Kinds      []routeKind      `api:"kinds" max:"8"`
}

type routeNamespaces struct {
	From     string         `api:"from" default:"Same" words:"All,Selector,Same"`
	Selector *labelSelector `api:"selector"`
}

type labelSelector struct {
	Labels      map[string]string  `api:"matchLabels"`
	Expressions []labelRequirement `api:"matchExpressions"`
}

type labelRequirement struct {
	Key      string   `api:"key,required"`
	Operator string   `api:"operator,required" words:"In,NotIn,Exists,DoesNotExist"`
	Values   []string `api:"values"`
}

type routeKind struct {
	Group string `api:"group" default:"gateway.networking.k8s.io"`
	Kind  string `api:"kind,required"`
}

// routeSpec is what all routes have.
type routeSpec struct {
	Parents            []parentRef `api:"parentRefs" max:"32"`
	UseDefaultGateways unhonoured  `api:"useDefaultGateways" hint:"name the Gateway in parentRefs"`
	Hostnames          []string    `api:"hostnames" max:"16"`
}

type parentRef struct {
	Group       string `api:"group" default:"gateway.networking.k8s.io"`
	Kind        string `api:"kind" default:"Gateway"`
	Namespace   string `api:"namespace"`
	Name        string `api:"name,required"`
	SectionName string `api:"sectionName"`
	Port        int32  `api:"port" min:"1" max:"65535"`
}

type httpRouteSpec struct {
	routeSpec `api:",inline"`
	Rules     []httpRule `api:"rules" min:"1" max:"16"`
}

type httpRule struct {
	Name               string        `api:"name"`
	Matches            []httpMatch   `api:"matches" max:"64"`
	Filters            []httpFilter  `api:"filters" max:"16"`
	Backends           []httpBackend `api:"backendRefs" max:"16"`
	Timeouts           *httpTimeouts `api:"timeouts"`
	Retry              *httpRetry    `api:"retry"`
	SessionPersistence unhonoured    `api:"sessionPersistence" hint:"requests are spread by the weights, one by one"`
}

type httpMatch struct {
	Path    *pathMatch   `api:"path"`
	Headers []valueMatch `api:"headers" max:"16"`
	Query   []valueMatch `api:"queryParams" max:"16"`
	Method  string       `api:"method" words:"GET,HEAD,POST,PUT,DELETE,CONNECT,OPTIONS,TRACE,PATCH"`
}

type pathMatch struct {
	Type  string `api:"type" default:"PathPrefix" words:"Exact,PathPrefix,RegularExpression"`
	Value string `api:"value" default:"/"`
}

// valueMatch is a match of a header or a query parameter.
type valueMatch struct {
	Type  string `api:"type" default:"Exact" words:"Exact,RegularExpression"`
	Name  string `api:"name,required"`
	Value string `api:"value,required"`
}

type httpTimeouts struct {
	Request        *duration `api:"request"`
	BackendRequest *duration `api:"backendRequest"`
}

type httpRetry struct {
	Codes    []int32   `api:"codes"`
	Attempts *int32    `api:"attempts" min:"1" max:"2147483647"`
	Backoff  *duration `api:"backoff"`
}

type httpFilter struct {
	Type           string          `api:"type,required" words:"RequestHeaderModifier,ResponseHeaderModifier,RequestMirror,RequestRedirect,URLRewrite,ExtensionRef,CORS,ExternalAuth"`
	RequestHeader  *headerFilter   `api:"requestHeaderModifier"`
	ResponseHeader *headerFilter   `api:"responseHeaderModifier"`
	Mirror         *mirrorFilter   `api:"requestMirror"`
	Redirect       *redirectFilter `api:"requestRedirect"`
	Rewrite        *rewriteFilter  `api:"urlRewrite"`
	CORS           *corsFilter     `api:"cors"`
	ExternalAuth   unhonoured      `api:"externalAuth"`
	Extension      unhonoured      `api:"extensionRef" hint:"no filter of anybody else is known"`
}

type headerFilter struct {
	Set    []headerValue `api:"set" max:"16"`
	Add    []headerValue `api:"add" max:"16"`
	Remove []string      `api:"remove" max:"16"`
}

type headerValue struct {
	Name  string `api:"name,required"`
	Value string `api:"value,required"`
}

type pathModifier struct {
	Type   string  `api:"type,required" words:"ReplaceFullPath,ReplacePrefixMatch"`
	Full   *string `api:"replaceFullPath"`
	Prefix *string `api:"replacePrefixMatch"`
}

type redirectFilter struct {
	Scheme   string        `api:"scheme" words:"http,https"`
	Hostname *string       `api:"hostname"`
	Path     *pathModifier `api:"path"`
	Port     int32         `api:"port" min:"1" max:"65535"`
	Status   int32         `api:"statusCode" default:"302" words:"301,302,303,307,308"`
}

type rewriteFilter struct {
	Hostname *string       `api:"hostname"`
	Path     *pathModifier `api:"path"`
}

type mirrorFilter struct {
	Backend  backendRef `api:"backendRef,required"`
	Percent  *int32     `api:"percent" min:"0" max:"100"`
	Fraction *fraction  `api:"fraction"`
}

type fraction struct {
	Numerator   int32 `api:"numerator,required" min:"0" max:"2147483647"`
	Denominator int32 `api:"denominator" default:"100" min:"1" max:"2147483647"`
}

type corsFilter struct {
	Origins     []string `api:"allowOrigins" max:"64"`
	Credentials bool     `api:"allowCredentials"`
	Methods     []string `api:"allowMethods" max:"9" words:"GET,HEAD,POST,PUT,DELETE,CONNECT,OPTIONS,TRACE,PATCH,*"`
	Headers     []string `api:"allowHeaders" max:"64"`
	Expose      []string `api:"exposeHeaders" max:"64"`
	MaxAge      int32    `api:"maxAge" default:"5" min:"1" max:"2147483647"`
}

type backendRef struct {
	Group     string `api:"group"`
	Kind      string `api:"kind" default:"Service"`
	Namespace string `api:"namespace"`
	Name      string `api:"name,required"`
	Port      int32  `api:"port" min:"1" max:"65535"`
}

type httpBackend struct {
	backendRef `api:",inline"`
	Weight     int32        `api:"weight" default:"1" min:"0" max:"1000000"`
	Filters    []httpFilter `api:"filters" max:"16"`
}

type grpcRouteSpec struct {
	routeSpec `api:",inline"`
	Rules     []grpcRule `api:"rules" max:"16"`
}

type grpcRule struct {
	Name               string        `api:"name"`
	Matches            []grpcMatch   `api:"matches" max:"64"`
	Filters            []grpcFilter  `api:"filters" max:"16"`
	Backends           []grpcBackend `api:"backendRefs" max:"16"`
	SessionPersistence unhonoured    `api:"sessionPersistence" hint:"requests are spread by the weights, one by one"`
}

type grpcMatch struct {
	Method  *methodMatch `api:"method"`
	Headers []valueMatch `api:"headers" max:"16"`
}

type methodMatch struct {
	Type    string `api:"type" default:"Exact" words:"Exact,RegularExpression"`
	Service string `api:"service"`
	Method  string `api:"method"`
}

type grpcFilter struct {
	Type           string        `api:"type,required" words:"RequestHeaderModifier,ResponseHeaderModifier,RequestMirror,ExtensionRef"`
	RequestHeader  *headerFilter `api:"requestHeaderModifier"`
	ResponseHeader *headerFilter `api:"responseHeaderModifier"`
	Mirror         *mirrorFilter `api:"requestMirror"`
	Extension      unhonoured    `api:"extensionRef" hint:"no filter of anybody else is known"`
}

type grpcBackend struct {
	backendRef `api:",inline"`
	Weight     int32        `api:"weight" default:"1" min:"0" max:"1000000"`
	Filters    []grpcFilter `api:"filters" max:"16"`
}

// filter is a gRPC route's filter as one of an HTTPRoute.
func (f grpcFilter) http() httpFilter {
	return httpFilter{Type: f.Type, RequestHeader: f.RequestHeader, ResponseHeader: f.ResponseHeader, Mirror: f.Mirror}
}

type referenceGrantSpec struct {
	From []grantFrom `api:"from,required" min:"1" max:"16"`
	To   []grantTo   `api:"to,required" min:"1" max:"16"`
}

type grantFrom struct {
	Group     string `api:"group,required"`
	Kind      string `api:"kind,required"`
	Namespace string `api:"namespace,required"`
}

type grantTo struct {
	Group string  `api:"group,required"`
	Kind  string  `api:"kind,required"`
	Name  *string `api:"name"`
}
