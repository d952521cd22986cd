package inject_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"meshtest.dev/meshtest/env/kube/inject"
	"meshtest.dev/meshtest/env/kube/names"
)

func ask(body []byte, edit ...func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, names.PathInject+"?timeout=5s", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	inject.Handler(config).ServeHTTP(w, r)
	return w
}

// reviewOf is how the API server asks about a pod that is about to be created.
func reviewOf(t *testing.T, p any, edit ...func(*admissionv1.AdmissionRequest)) []byte {
	t.Helper()
	request := &admissionv1.AdmissionRequest{
		UID: "705ab4f5", Operation: admissionv1.Create, Namespace: "shop", Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
		Object: runtime.RawExtension{Raw: marshal(t, p)},
	}
	for _, e := range edit {
		e(request)
	}
	return marshal(t, admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: request})
}

func answer(t *testing.T, body []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	w := ask(body)
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	var out admissionv1.AdmissionReview
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
	require.Equal(t, "admission.k8s.io/v1", out.APIVersion)
	require.Equal(t, "AdmissionReview", out.Kind)
	require.Nil(t, out.Request)
	require.EqualValues(t, "705ab4f5", out.Response.UID)
	return out.Response
}

func TestHandler(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		pod      *corev1.Pod
		edit     func(*admissionv1.AdmissionRequest)
		patched  bool
		denied   string
		warnings []string
	}{
		"plain":          {pod: pods["plain"], patched: true},
		"everything":     {pod: pods["everything"], patched: true},
		"generated name": {pod: pods["generated name"], patched: true},
		"dry run":        {pod: pods["plain"], edit: func(r *admissionv1.AdmissionRequest) { r.DryRun = ptr(true) }, patched: true},
		"opted out":      {pod: pods["opted out"]},
		"host network":   {pod: pods["host network"], warnings: []string{"no sidecar: the pod shares its node's network, where capturing traffic would capture everybody's"}},
		"Kubernetes' own namespace": {
			pod:  pod(func(p *corev1.Pod) { p.Namespace = "" }), // the API server has not filled it in for us
			edit: func(r *admissionv1.AdmissionRequest) { r.Namespace = "kube-system" },
		},
		"refused": {
			pod: pod(func(p *corev1.Pod) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsUser: ptr(int64(names.UID))}
			}),
			denied: "spec.securityContext.runAsUser: 1337 is the sidecar's user, whose traffic is not captured: choose another one",
		},
		"an update":    {pod: pods["plain"], edit: func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update }},
		"an eviction":  {pod: pods["plain"], edit: func(r *admissionv1.AdmissionRequest) { r.SubResource = "eviction" }},
		"another kind": {pod: pods["plain"], edit: func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "services" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			edit := func(r *admissionv1.AdmissionRequest) {
				if tt.edit != nil {
					tt.edit(r)
				}
			}
			got := answer(t, reviewOf(t, tt.pod, edit))
			require.Equal(t, tt.denied == "", got.Allowed)
			require.Equal(t, tt.warnings, got.Warnings)
			if tt.denied != "" {
				require.Equal(t, tt.denied, got.Result.Message)
				require.EqualValues(t, http.StatusForbidden, got.Result.Code)
				require.Equal(t, metav1.StatusReasonForbidden, got.Result.Reason)
			}
			if !tt.patched {
				require.Nil(t, got.Patch)
				require.Nil(t, got.PatchType)
				return
			}
			require.Equal(t, admissionv1.PatchTypeJSONPatch, *got.PatchType)
			want, err := inject.Patch(marshal(t, tt.pod), config())
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(got.Patch))
		})
	}
}

func TestWhatIsNoReview(t *testing.T) {
	t.Parallel()
	valid := reviewOf(t, pods["plain"])
	for name, tt := range map[string]struct {
		body   []byte
		edit   func(*http.Request)
		status int
	}{
		"read, not posted": {valid, func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		"YAML":             {valid, func(r *http.Request) { r.Header.Set("Content-Type", "application/yaml") }, http.StatusUnsupportedMediaType},
		"of no type":       {valid, func(r *http.Request) { r.Header.Del("Content-Type") }, http.StatusUnsupportedMediaType},
		"with a charset":   {valid, func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, http.StatusOK},
		"empty":            {nil, nil, http.StatusBadRequest},
		"cut short":        {valid[:len(valid)/2], nil, http.StatusBadRequest},
		"another version":  {bytes.Replace(valid, []byte("admission.k8s.io/v1"), []byte("admission.k8s.io/v2"), 1), nil, http.StatusBadRequest},
		"no request":       {[]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), nil, http.StatusBadRequest},
		"too long":         {append(bytes.Repeat([]byte(" "), 3<<20), valid...), nil, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.status, ask(tt.body, func(r *http.Request) {
				if tt.edit != nil {
					tt.edit(r)
				}
			}).Code)
		})
	}
}

// What cannot be judged is not let through: it would be outside the mesh.
func TestTheHandlerFailsClosed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		object string
		denied string
		code   int32
	}{
		"no object":      {"null", "reading the pod: unexpected end of JSON input", http.StatusInternalServerError},
		"an empty one":   {"{}", "spec: the pod has no containers", http.StatusForbidden},
		"a list":         {"[]", "reading the pod: json: cannot unmarshal array into Go value of type map[string]interface {}", http.StatusInternalServerError},
		"another object": {`{"spec":{"containers":"none"}}`, "spec.containers: it wants a list, not string", http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := answer(t, reviewOf(t, json.RawMessage(tt.object)))
			require.False(t, got.Allowed)
			require.Equal(t, tt.denied, got.Result.Message)
			require.Equal(t, tt.code, got.Result.Code)
		})
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(reviewOf(t, pods["plain"])))
	r.Header.Set("Content-Type", "application/json")
	inject.Handler(func() inject.Config { return inject.Config{} }).ServeHTTP(w, r)
	var out admissionv1.AdmissionReview
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
	require.False(t, out.Response.Allowed)
	require.True(t, strings.HasPrefix(out.Response.Result.Message, "injecting: "), out.Response.Result.Message)
}

func FuzzHandler(f *testing.F) {
	for _, p := range pods {
		text, err := json.Marshal(p)
		require.NoError(f, err)
		f.Add(text, true)
	}
	f.Add([]byte(`{"metadata":null,"spec":{"initContainers":null,"volumes":{},"containers":[{}]}}`), true)
	f.Add([]byte(`not even a review`), false)
	f.Fuzz(func(t *testing.T, object []byte, wrap bool) {
		body := object
		if wrap {
			if !json.Valid(object) {
				return
			}
			body = reviewOf(t, json.RawMessage(object))
		}
		w := ask(body)
		if w.Code != http.StatusOK {
			require.False(t, wrap && len(body) < 3<<20, w.Body)
			return
		}
		var out admissionv1.AdmissionReview
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
		if out.Response.Allowed && out.Response.Patch != nil && wrap {
			again := patched(t, object, config())
			second, err := inject.Patch(again, config())
			require.NoError(t, err)
			require.Nil(t, second)
		}
	})
}
