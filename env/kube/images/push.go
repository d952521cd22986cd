package images

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"
)

// Push brings images to a registry, under a prefix such as registry.example.com/meshtest, with the credentials of the user's container tools. It returns their references there. What the
// registry has is not sent again.
func Push(ctx context.Context, prefix string, images ...Image) ([]string, error) {
	refs := make([]string, len(images))
	g, ctx := errgroup.WithContext(ctx)
	for n, i := range images {
		refs[n] = strings.TrimSuffix(prefix, "/") + strings.TrimPrefix(i.Ref, Local)
		g.Go(func() error {
			if err := i.push(ctx, refs[n]); err != nil {
				return fmt.Errorf("pushing %s: %w", refs[n], err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return refs, nil
}

func (i Image) push(ctx context.Context, ref string) error {
	to, err := name.NewTag(ref, name.StrictValidation)
	if err != nil {
		return err
	}
	err = remote.Write(to, i.image, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
	var answer *transport.Error
	if errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden) {
		return fmt.Errorf("the registry does not let this user write: log in with `docker login %s`: %w", to.RegistryStr(), err)
	}
	return err
}
