// Command kind-offline lets kind make clusters on a machine that cannot pull container images: it sees to it that a container engine answers,
// and makes a node image from Debian's packages and Go modules. It is run by the script "up" beside it.
//
// Everything that takes long is a part that is made once for each content of its inputs and kept; a run that was interrupted goes on where it
// stopped, and a run with nothing to do takes less than a second.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	cache := flag.String("cache", "", "the `folder` for what is built and downloaded")
	engineOnly := flag.Bool("engine", false, "only see to it that a container engine answers")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := up(ctx, *cache, *engineOnly); err != nil {
		fmt.Fprintln(os.Stderr, "kind-offline:", err)
		os.Exit(1)
	}
}

// up does what its name says from the repository's root, and prints on stdout, as shell assignments, how to use it.
func up(ctx context.Context, cache string, engineOnly bool) error {
	s, err := openStore(cache)
	if err != nil {
		return err
	}
	defer s.Close()
	limited, err := withoutSysResource("/proc/self/status")
	if err != nil {
		return err
	}
	if err := engine(ctx, s, limited); err != nil {
		return err
	}
	if engineOnly {
		return nil
	}
	image, err := nodeImage(ctx, s)
	if err != nil {
		return err
	}
	fmt.Printf("export MESHTEST_KIND_IMAGE=%s\n", image)
	if limited {
		config, err := filepath.Abs("hack/kind-offline/no-sys-resource.yaml")
		if err != nil {
			return err
		}
		say("processes of this host cannot have CAP_SYS_RESOURCE: clusters need the configuration below")
		fmt.Printf("export MESHTEST_KIND_CONFIG='%s'\n", config)
	}
	return nil
}
