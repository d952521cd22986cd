package apply

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// RefusedError says that a cluster did not take an object, and why, in one sentence. What the API server said itself is wrapped.
type RefusedError struct {
	Object string // kind, name, namespace
	Reason string
	err    error
}

func (e *RefusedError) Error() string { return e.Object + ": " + e.Reason }

func (e *RefusedError) Unwrap() error { return e.err }

// refused makes what went wrong with an object a sentence.
func refused(u *unstructured.Unstructured, err error) error {
	return &RefusedError{Object: describe(u), Reason: sentence(err), err: err}
}

func describe(u *unstructured.Unstructured) string {
	name := u.GetKind() + " " + u.GetName()
	if u.GetNamespace() != "" {
		name += " in namespace " + u.GetNamespace()
	}
	return name
}

// sentence is what an API server said, or why it said nothing.
func sentence(err error) string {
	var unreachable *url.Error
	var status apierrors.APIStatus
	switch {
	case errors.As(err, &status):
		return statusSentence(status.Status())
	case errors.As(err, &unreachable) && !unreachable.Timeout():
		return fmt.Sprintf("the API server at %s does not answer: %v", host(unreachable.URL), unreachable.Err)
	case errors.Is(err, net.ErrClosed):
		return "the connection to the API server is closed"
	default:
		return err.Error()
	}
}

func host(text string) string {
	if at, err := url.Parse(text); err == nil && at.Host != "" {
		return at.Host
	}
	return text
}

func statusSentence(s metav1.Status) string {
	switch s.Reason {
	case metav1.StatusReasonConflict:
		if text := conflicts(s); text != "" {
			return text
		}
	case metav1.StatusReasonUnauthorized:
		return "the cluster does not accept the credentials of the kubeconfig"
	case metav1.StatusReasonInvalid:
		if _, what, found := strings.Cut(s.Message, " is invalid: "); found {
			return "it is invalid: " + what
		}
	case metav1.StatusReasonNotFound:
		if s.Details != nil && s.Details.Kind == "namespaces" {
			return "there is no namespace " + s.Details.Name
		}
	}
	text, _ := admission(s.Message)
	return text
}

// conflicts says who else manages which fields.
func conflicts(s metav1.Status) string {
	if s.Details == nil {
		return ""
	}
	var parts []string
	for _, c := range s.Details.Causes {
		if c.Type != metav1.CauseTypeFieldManagerConflict {
			continue
		}
		who := strings.TrimPrefix(c.Message, "conflict with ")
		if name, _, found := strings.Cut(strings.TrimPrefix(who, `"`), `"`); found {
			who = name
		}
		parts = append(parts, fmt.Sprintf("%s sets %s", who, c.Field))
	}
	if len(parts) == 0 {
		return ""
	}
	return "somebody else manages it, and meshtest takes nothing over: " + strings.Join(parts, ", ")
}

// refusals are what API servers say about objects that they do not take, in our words. What is final does not heal by itself.
var refusals = []struct {
	says  *regexp.Regexp
	means string
	final bool
}{
	{regexp.MustCompile(`exceeded quota: ([^,]+), requested: (.+), used: (.+), limited: (.+)$`), "quota $1 has no room: it needs $2, where $3 is used of $4", true},
	{regexp.MustCompile(`failed quota: ([^:]+): (.+)$`), "quota $1 refuses it: $2", true},
	{regexp.MustCompile(`violates PodSecurity "([^"]+)": (.+)$`), "Pod Security $1 refuses it: $2", true},
	{regexp.MustCompile(`(?s)admission webhook "([^"]+)" denied the request: (.+)$`), "webhook $1 refuses it: $2", true},
	{regexp.MustCompile(`admission webhook "([^"]+)" denied the request`), "webhook $1 refuses it", true},
	{regexp.MustCompile(`(?s)ValidatingAdmissionPolicy '([^']+)' .*denied request: (.+)$`), "policy $1 refuses it: $2", true},
	{regexp.MustCompile(`(?s)failed calling webhook "([^"]+)": (.+)$`), "webhook $1 has to agree, and does not answer: $2", false},
	{regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "namespaces" in API group "" in the namespace "([^"]+)"`), "user $1 may not $2 namespace $3", true},
	{regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "([^"]+)" in API group "" in the namespace "([^"]+)"`), "user $1 may not $2 $3 in namespace $4", true},
	{regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "([^"]+)" in API group "([^"]+)" in the namespace "([^"]+)"`), "user $1 may not $2 $3.$4 in namespace $5", true},
	{regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "([^"]+)" in API group "" at the cluster scope`), "user $1 may not $2 $3", true},
	{regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "([^"]+)" in API group "([^"]+)" at the cluster scope`), "user $1 may not $2 $3.$4", true},
	{regexp.MustCompile(`unable to create new content in namespace (\S+) because it is being terminated`), "namespace $1 is being deleted", true},
	{regexp.MustCompile(`(?s) is forbidden: (.+)$`), "the cluster forbids it: $1", false}, // such as an account that is made a moment later
}

// admission says in our words why an object was not admitted, and whether it ever can be as things are.
func admission(message string) (text string, final bool) {
	message = strings.TrimSpace(message)
	for _, r := range refusals {
		if at := r.says.FindStringSubmatchIndex(message); at != nil {
			return string(r.says.ExpandString(nil, r.means, message, at)), r.final
		}
	}
	return message, false
}
