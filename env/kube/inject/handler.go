package inject

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxReview bounds an admission review, in bytes: what the API server stores is at most half of that.
const maxReview = 3 << 20

// Handler answers the admission reviews (admission.k8s.io/v1) of pods that are about to be created, by what config returns at that time. It has no effect but its answer, so that dry runs are
// safe. Whatever is not the creation of a pod it lets pass.
func Handler(config func() Config) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, status, err := readReview(w, r)
		if err != nil {
			http.Error(w, err.Error(), status)
			return
		}
		answer, err := json.Marshal(admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
			Response: review(request, config()),
		})
		if err != nil {
			http.Error(w, fmt.Sprintf("writing the answer: %v", err), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer) // when the API server has gone, so has the question
	})
}

// readReview reads the request of a review, or says with which HTTP status it is refused.
func readReview(w http.ResponseWriter, r *http.Request) (*admissionv1.AdmissionRequest, int, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, http.StatusMethodNotAllowed, errors.New("admission reviews are posted")
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, http.StatusUnsupportedMediaType, errors.New("admission reviews are application/json")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return nil, http.StatusRequestEntityTooLarge, fmt.Errorf("the admission review is longer than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("reading the admission review: %w", err)
	}
	var in admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, http.StatusBadRequest, fmt.Errorf("reading the admission review: %w", err)
	}
	if in.APIVersion != admissionv1.SchemeGroupVersion.String() || in.Kind != "AdmissionReview" || in.Request == nil {
		return nil, http.StatusBadRequest, errors.New("this is no request of an AdmissionReview of admission.k8s.io/v1")
	}
	return in.Request, 0, nil
}

// review answers one request. A pod that is refused is denied with everything that is wrong with it; so is a pod that we cannot judge, because without its sidecar it would be outside the mesh and nobody
// would know.
func review(request *admissionv1.AdmissionRequest, c Config) *admissionv1.AdmissionResponse {
	answer := &admissionv1.AdmissionResponse{UID: request.UID, Allowed: true}
	isPod := request.Resource.Group == "" && request.Resource.Version == "v1" && request.Resource.Resource == "pods" && request.SubResource == ""
	if !isPod || request.Operation != admissionv1.Create {
		return answer
	}
	patch, result, err := patch(request.Object.Raw, request.Namespace, c)
	if err != nil {
		answer.Allowed = false
		answer.Result = &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError, Message: err.Error()}
		if problems := (Problems)(nil); errors.As(err, &problems) {
			answer.Result.Code, answer.Result.Reason = http.StatusForbidden, metav1.StatusReasonForbidden
		}
		return answer
	}
	answer.Warnings = result.Warnings
	if patch != nil {
		kind := admissionv1.PatchTypeJSONPatch
		answer.Patch, answer.PatchType = patch, &kind
	}
	return answer
}
