package apply

import (
	"errors"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

func web() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("apps/v1")
	u.SetKind("Deployment")
	u.SetName("web")
	u.SetNamespace("shop")
	return u
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	pods := schema.GroupResource{Resource: "pods"}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"quota": {
			apierrors.NewForbidden(pods, "web-1", errors.New("exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2")),
			"quota small has no room: it needs pods=1, where pods=2 is used of pods=2",
		},
		"quota that wants limits": {
			apierrors.NewForbidden(pods, "web-1", errors.New("failed quota: small: must specify limits.cpu for: app")),
			"quota small refuses it: must specify limits.cpu for: app",
		},
		"pod security": {
			apierrors.NewForbidden(pods, "web-1", errors.New(`violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "app" must set securityContext.allowPrivilegeEscalation=false)`)),
			`Pod Security restricted:latest refuses it: allowPrivilegeEscalation != false (container "app" must set securityContext.allowPrivilegeEscalation=false)`,
		},
		"webhook": {
			&apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonInvalid, Message: `admission webhook "inject.meshtest.dev" denied the request: it runs as user 1337`}},
			"webhook inject.meshtest.dev refuses it: it runs as user 1337",
		},
		"webhook that is not there": {
			apierrors.NewInternalError(errors.New(`failed calling webhook "inject.meshtest.dev": failed to call webhook: Post "https://meshtest-control.x.svc:443/inject": no endpoints available`)),
			`webhook inject.meshtest.dev has to agree, and does not answer: failed to call webhook: Post "https://meshtest-control.x.svc:443/inject": no endpoints available`,
		},
		"policy": {
			&apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonInvalid, Message: `deployments.apps "web" is forbidden: ValidatingAdmissionPolicy 'few' with binding 'all' denied request: at most 3`}},
			"policy few refuses it: at most 3",
		},
		"invalid": {
			apierrors.NewInvalid(schema.GroupKind{Group: "apps", Kind: "Deployment"}, "web", field.ErrorList{field.Required(field.NewPath("spec", "selector"), "")}),
			"it is invalid: spec.selector: Required value",
		},
		"rights in a namespace": {
			apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "deployments"}, "web", errors.New(`User "bob" cannot patch resource "deployments" in API group "apps" in the namespace "shop"`)),
			"user bob may not patch deployments.apps in namespace shop",
		},
		"rights in the core group": {
			apierrors.NewForbidden(pods, "", errors.New(`User "bob" cannot create resource "pods/portforward" in API group "" in the namespace "shop"`)),
			"user bob may not create pods/portforward in namespace shop",
		},
		"rights in the cluster": {
			apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "shop", errors.New(`User "bob" cannot create resource "namespaces" in API group "" at the cluster scope`)),
			"user bob may not create namespaces",
		},
		"namespace that goes": {
			apierrors.NewForbidden(pods, "x", errors.New("unable to create new content in namespace shop because it is being terminated")),
			"namespace shop is being deleted",
		},
		"namespace that is not there": {apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, "shop"), "there is no namespace shop"},
		"credentials":                 {apierrors.NewUnauthorized("Unauthorized"), "the cluster does not accept the credentials of the kubeconfig"},
		"limits":                      {apierrors.NewForbidden(pods, "x", errors.New("maximum memory usage per Container is 1Gi")), "the cluster forbids it: maximum memory usage per Container is 1Gi"},
		"no server":                   {&url.Error{Op: "Get", URL: "https://127.0.0.1:6443/api", Err: errors.New("connection refused")}, "the API server at 127.0.0.1:6443 does not answer: connection refused"},
		"another manager": {
			apierrors.NewApplyConflict([]metav1.StatusCause{
				{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "kubectl" using apps/v1`, Field: ".spec.replicas"},
				{Type: metav1.CauseTypeFieldManagerConflict, Message: `conflict with "helm" with subresource "status" using apps/v1`, Field: ".spec.template"},
			}, "Apply failed with 2 conflicts"),
			"somebody else manages it, and meshtest takes nothing over: kubectl sets .spec.replicas, helm sets .spec.template",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := refused(web(), c.err)
			require.EqualError(t, err, "Deployment web in namespace shop: "+c.want)
			require.ErrorIs(t, err, c.err)
		})
	}
}

func TestWhatHealsByItself(t *testing.T) {
	t.Parallel()
	for message, final := range map[string]bool{
		`pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`:           true,
		`Internal error occurred: failed calling webhook "x.y": failed to call webhook: connection refused`:    false,
		`pods "x" is forbidden: violates PodSecurity "baseline:v1.30": host namespaces (hostNetwork=true)`:     true,
		`the server was unable to return a response in the time allotted`:                                      false,
		`pods "x" is forbidden: error looking up service account shop/web: serviceaccount "web" not found`:     false,
		`deployments.apps "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no`: true,
	} {
		_, is := admission(message)
		require.Equal(t, final, is, message)
	}
}
