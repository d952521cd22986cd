package discovery

import (
	"encoding/base64"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"meshtest.dev/meshtest/env/kube/names"
)

// jwt looks like a token that expires then.
func jwt(expiry time.Time) string {
	payload := fmt.Sprintf(`{"exp": %d, "sub": "system:serviceaccount:shop-1:web"}`, expiry.Unix())
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(payload)) + ".c2ln"
}

// reviewed answers every review with what the function says, and looks at the clock that the test sets.
func reviewed(t *testing.T, now *time.Time, answer func(token string) (authenticationv1.TokenReviewStatus, error)) *Reviewer {
	t.Helper()
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
		review, ok := action.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		require.True(t, ok)
		require.Equal(t, []string{names.Audience}, review.Spec.Audiences)
		status, err := answer(review.Spec.Token)
		return true, &authenticationv1.TokenReview{Status: status}, err
	})
	r := NewReviewer(client, real, system)
	r.now = func() time.Time { return *now }
	return r
}

func good(edit ...func(*authenticationv1.TokenReviewStatus)) authenticationv1.TokenReviewStatus {
	s := authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{names.Audience},
		User: authenticationv1.UserInfo{Username: "system:serviceaccount:shop-1:web", Extra: map[string]authenticationv1.ExtraValue{extraPod: {"web-1"}}},
	}
	for _, e := range edit {
		e(&s)
	}
	return s
}

func TestWhoseTokenItIs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		instance string
		status   authenticationv1.TokenReviewStatus
		err      error
		want     string // empty: it is good
	}{
		"good":               {"web-1.shop-1", good(), nil, ""},
		"another pod's":      {"web-2.shop-1", good(), nil, "the token is that of web-1.shop-1, not of web-2.shop-1"},
		"a longer name":      {"web-1.shop-12", good(), nil, "not of web-1.shop-12"},
		"not good":           {"web-1.shop-1", authenticationv1.TokenReviewStatus{}, nil, "it is not good"},
		"not good, and why":  {"web-1.shop-1", authenticationv1.TokenReviewStatus{Error: "expired"}, nil, "it is not good: expired"},
		"for somebody else":  {"web-1.shop-1", good(func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"https://kubernetes.default.svc"} }), nil, "was not made for meshtest-control"},
		"for nobody":         {"web-1.shop-1", good(func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil }), nil, "was not made for meshtest-control"},
		"a user's":           {"web-1.shop-1", good(func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "shop-1:web" }), nil, "no service account"},
		"a node's":           {"web-1.shop-1", good(func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:node:n" }), nil, "no service account"},
		"of no pod":          {"web-1.shop-1", good(func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil }), nil, "bound to no pod"},
		"from elsewhere":     {"web-1.x", good(func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:x:web" }), nil, "nothing to do with namespace x"},
		"nobody can tell":    {"web-1.shop-1", authenticationv1.TokenReviewStatus{}, errors.New("no answer"), "finding out who shows a token: no answer"},
		"a gateway's":        {"web-1.meshtest-1", good(func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:meshtest-1:gw" }), nil, ""},
		"a pod without name": {".shop-1", good(func(s *authenticationv1.TokenReviewStatus) { s.User.Extra[extraPod] = []string{""} }), nil, "bound to no pod"},
	} {
		now := time.Unix(1000, 0)
		r := reviewed(t, &now, func(string) (authenticationv1.TokenReviewStatus, error) { return test.status, test.err })
		err := r.Authenticate(t.Context(), test.instance, "token")
		if test.want == "" {
			require.NoError(t, err, name)
			continue
		}
		require.ErrorContains(t, err, test.want, name)
	}
	now := time.Unix(1000, 0)
	silent := reviewed(t, &now, func(string) (authenticationv1.TokenReviewStatus, error) { return good(), nil })
	require.ErrorContains(t, silent.Authenticate(t.Context(), "web-1.shop-1", ""), "shows no token")
	require.Zero(t, silent.Reviews())
}

func TestAnswersAreRememberedForAWhile(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	status := good()
	r := reviewed(t, &now, func(string) (authenticationv1.TokenReviewStatus, error) { return status, nil })
	ask := func(token string, asked uint64) {
		t.Helper()
		require.NoError(t, r.Authenticate(t.Context(), "web-1.shop-1", token))
		require.Equal(t, asked, r.Reviews())
	}
	brief, long := jwt(now.Add(time.Minute)), jwt(now.Add(time.Hour))
	ask(brief, 1)
	ask(brief, 1)
	ask(long, 2)
	now = now.Add(59 * time.Second)
	ask(brief, 2)
	ask(long, 2)
	now = now.Add(time.Second)
	ask(brief, 3) // it has expired by itself
	ask(long, 3)
	now = now.Add(rememberedFor)
	ask(long, 4) // its pod may be gone
	require.Error(t, r.Authenticate(t.Context(), "web-2.shop-1", long), "what is remembered is whose it is")
	require.EqualValues(t, 4, r.Reviews())

	status = authenticationv1.TokenReviewStatus{}
	require.Error(t, r.Authenticate(t.Context(), "web-1.shop-1", "bad"))
	require.Error(t, r.Authenticate(t.Context(), "web-1.shop-1", "bad"))
	require.EqualValues(t, 6, r.Reviews(), "what is not good may be good next time")
	require.Len(t, r.known, 2)
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	r := reviewed(t, &now, func(string) (authenticationv1.TokenReviewStatus, error) { return good(), nil })
	first := jwt(now.Add(time.Second))
	require.NoError(t, r.Authenticate(t.Context(), "web-1.shop-1", first))
	for i := range rememberedTokens {
		r.remember(fmt.Sprint(i), "x", jwt(now.Add(time.Minute+time.Duration(i)*time.Millisecond)))
	}
	require.Len(t, r.known, rememberedTokens)
	require.NoError(t, r.Authenticate(t.Context(), "web-1.shop-1", first))
	require.EqualValues(t, 2, r.Reviews(), "the one that would have been good for the shortest time was forgotten")
	now = now.Add(time.Hour)
	r.remember("new", "x", "")
	require.Len(t, r.known, 1)
}

func TestExpiryOf(t *testing.T) {
	t.Parallel()
	when, ok := expiryOf(jwt(time.Unix(1234, 0)))
	require.True(t, ok)
	require.Equal(t, time.Unix(1234, 0), when)
	for _, token := range []string{"", "opaque", "a.b", "a.!.c", "a.e30.c", "a." + base64.RawURLEncoding.EncodeToString([]byte("[]")) + ".c"} {
		_, ok := expiryOf(token)
		require.False(t, ok, token)
	}
}
