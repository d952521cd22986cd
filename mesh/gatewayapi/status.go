package gatewayapi

// Status is what a controller writes into the status of one object.
type Status struct {
	Kind, Namespace, Name string
	Generation            int64       // metadata.generation, for observedGeneration; 0 in a file
	Parents               []Parent    // of a route: one for each parentRef whose parent is there
	Conditions            []Condition // of a Gateway
	Listeners             []Listener  // of a Gateway, in its order
}

// Parent is how a route stands with one of its parents.
type Parent struct {
	Ref        ParentRef
	Conditions []Condition
}

// ParentRef is a parentRef as it was written, with its defaults.
type ParentRef struct {
	Group       string
	Kind        string
	Namespace   string // empty: that of the route
	Name        string
	SectionName string // empty: none
	Port        int    // 0: none
}

// Listener is how a listener of a Gateway does.
type Listener struct {
	Name           string
	SupportedKinds []string // of the API's own group
	AttachedRoutes int
	Conditions     []Condition
}

// Condition is one condition without its time and generation, which are the controller's.
type Condition struct {
	Type    string
	True    bool
	Reason  string
	Message string
}

// Types of conditions.
const (
	Accepted         = "Accepted"
	ResolvedRefs     = "ResolvedRefs"
	PartiallyInvalid = "PartiallyInvalid"
	Conflicted       = "Conflicted"
)

// Reasons of conditions, as the specification names them. A condition that is well has its own type for a reason.
const (
	ReasonNotAllowedByListeners = "NotAllowedByListeners"
	ReasonNoMatchingHostname    = "NoMatchingListenerHostname"
	ReasonNoMatchingParent      = "NoMatchingParent"
	ReasonUnsupportedValue      = "UnsupportedValue"
	ReasonIncompatibleFilters   = "IncompatibleFilters"
	ReasonConflicted            = "Conflicted" // GEP-1294: a route of another kind has the parent
	ReasonRefNotPermitted       = "RefNotPermitted"
	ReasonInvalidKind           = "InvalidKind"
	ReasonBackendNotFound       = "BackendNotFound"
	ReasonListenersNotValid     = "ListenersNotValid"
	ReasonUnsupportedProtocol   = "UnsupportedProtocol"
	ReasonHostnameConflict      = "HostnameConflict"
	ReasonProtocolConflict      = "ProtocolConflict"
	ReasonNoConflicts           = "NoConflicts"
	ReasonInvalidRouteKinds     = "InvalidRouteKinds"
)

// fault is why something is not as it should be; the zero value: it is.
type fault struct{ reason, message string }

// or is the first of two faults.
func (f fault) or(g fault) fault {
	if f != (fault{}) {
		return f
	}
	return g
}

// condition is the condition that a fault makes of a type.
func (f fault) condition(kind string) Condition {
	if f == (fault{}) {
		return Condition{Type: kind, True: true, Reason: kind}
	}
	return Condition{Type: kind, Reason: f.reason, Message: f.message}
}
