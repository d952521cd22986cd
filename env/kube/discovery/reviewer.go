package discovery

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	typed "k8s.io/client-go/kubernetes/typed/authentication/v1"

	"meshtest.dev/meshtest/control/wire"
	"meshtest.dev/meshtest/env/kube/names"
)

// Bounds of what a [Reviewer] remembers. A token stops being good when its pod is gone, which only the API server knows, so none is believed for long without asking.
const (
	rememberedTokens = 4096
	rememberedFor    = 5 * time.Minute
)

// What a review says of a pod's token beside the account.
const (
	extraPod       = "authentication.kubernetes.io/pod-name"
	accountsPrefix = "system:serviceaccount:"
)

// Reviewer asks the API server who shows a token (TokenReview), and remembers the answer for a while. It is safe for concurrent use.
type Reviewer struct {
	reviews    typed.TokenReviewInterface
	namespaces []string
	now        func() time.Time
	asked      atomic.Uint64

	mu    sync.Mutex
	known map[string]proof // by digest of the token
}

// proof is what a token proves, and how long that is believed.
type proof struct {
	instance string
	until    time.Time
}

// NewReviewer returns a reviewer of tokens that pods of the given real namespaces show.
func NewReviewer(client kubernetes.Interface, namespaces ...string) *Reviewer {
	return &Reviewer{reviews: client.AuthenticationV1().TokenReviews(), namespaces: namespaces, now: time.Now, known: map[string]proof{}}
}

// Reviews is how often the API server was asked.
func (r *Reviewer) Reviews() uint64 { return r.asked.Load() }

// Authenticate returns nil when the token was made for us and for the pod that the instance names, and is good.
func (r *Reviewer) Authenticate(ctx context.Context, instance, token string) error {
	if token == "" {
		return fmt.Errorf("%s shows no token", instance)
	}
	digest := wire.TokenDigest(token)
	is, known := r.recall(digest)
	if !known {
		var err error
		if is, err = r.review(ctx, token); err != nil {
			return fmt.Errorf("finding out who shows a token: %w", err)
		}
		r.remember(digest, is, token)
	}
	if is != instance {
		return fmt.Errorf("the token is that of %s, not of %s", is, instance)
	}
	return nil
}

func (r *Reviewer) recall(digest string) (instance string, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, known := r.known[digest]
	return p.instance, known && r.now().Before(p.until)
}

func (r *Reviewer) remember(digest, instance, token string) {
	until := r.now().Add(rememberedFor)
	if expiry, ok := expiryOf(token); ok && expiry.Before(until) {
		until = expiry
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) >= rememberedTokens {
		r.forget()
	}
	r.known[digest] = proof{instance, until}
}

// forget makes room: of what is not believed any more, or else of what will be believed for the shortest time.
func (r *Reviewer) forget() {
	first := ""
	for digest, p := range r.known {
		if !r.now().Before(p.until) {
			delete(r.known, digest)
		} else if first == "" || p.until.Before(r.known[first].until) {
			first = digest
		}
	}
	if len(r.known) >= rememberedTokens {
		delete(r.known, first)
	}
}

// review asks the API server, and returns the instance that the token is of.
func (r *Reviewer) review(ctx context.Context, token string) (string, error) {
	r.asked.Add(1)
	question := &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{names.Audience}}}
	answer, err := r.reviews.Create(ctx, question, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	status := answer.Status
	switch {
	case !status.Authenticated && status.Error != "":
		return "", fmt.Errorf("it is not good: %s", status.Error)
	case !status.Authenticated:
		return "", errors.New("it is not good")
	case !slices.Contains(status.Audiences, names.Audience): // an API server that knows nothing of audiences takes any token
		return "", fmt.Errorf("it was not made for %s", names.Audience)
	}
	namespace, account, ok := strings.Cut(strings.TrimPrefix(status.User.Username, accountsPrefix), ":")
	pod := status.User.Extra[extraPod]
	switch {
	case !ok || account == "" || !strings.HasPrefix(status.User.Username, accountsPrefix):
		return "", fmt.Errorf("%s is no service account", status.User.Username)
	case len(pod) != 1 || pod[0] == "":
		return "", fmt.Errorf("it is bound to no pod of %s", status.User.Username)
	case !slices.Contains(r.namespaces, namespace):
		return "", fmt.Errorf("the mesh has nothing to do with namespace %s", namespace)
	}
	return Instance(pod[0], namespace), nil
}

// expiryOf is when a token that was found good says that it expires.
func expiryOf(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, false
	}
	var claims struct {
		Expiry float64 `json:"exp"` // seconds since 1970; RFC 7519 allows fractions
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Expiry <= 0 {
		return time.Time{}, false
	}
	return time.Unix(int64(claims.Expiry), 0), true
}
