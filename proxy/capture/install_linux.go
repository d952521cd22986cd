package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// patience bounds the conversation with the kernel: one that lacks nf_tables does not answer every question.
const patience = 5 * time.Second

// Install puts the rules in force in the calling thread's network namespace, in place of those that an earlier Install left: at once and as a whole, or not at all. Connections that were there
// before stay as they are. It needs the capability NET_ADMIN in that namespace, and a kernel with nf_tables and NAT for both families (Linux 5.2); an error says which is missing.
func Install(ctx context.Context, r Rules) error {
	if err := r.Validate(); err != nil {
		return fmt.Errorf("redirecting traffic: %w", err)
	}
	err := commit(ctx, func(c *nftables.Conn) { install(c, r.chains()) })
	if lacks(err) && !r.Unheard {
		r.Unheard = true
		err = commit(ctx, func(c *nftables.Conn) { install(c, r.chains()) })
	}
	if err != nil {
		return fmt.Errorf("redirecting traffic: %w", explain(err))
	}
	return nil
}

// lacks reports whether the kernel does not know something that it was asked for.
func lacks(err error) bool {
	return errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT)
}

// Remove takes the rules out of force, if there are any. Connections that were redirected stay so.
func Remove() error {
	if err := commit(context.Background(), remove); err != nil {
		return fmt.Errorf("ending the redirection of traffic: %w", explain(err))
	}
	return nil
}

// commit carries out changes in one transaction.
func commit(ctx context.Context, change func(*nftables.Conn)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	until := time.Now().Add(patience)
	if limit, ok := ctx.Deadline(); ok && limit.Before(until) {
		until = limit
	}
	conn, err := nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetDeadline(until) }))
	if err != nil {
		return err
	}
	change(conn)
	return conn.Flush()
}

// explain says what the kernel means.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("the capability NET_ADMIN is missing: %w", err)
	case lacks(err):
		return fmt.Errorf("the kernel has no nf_tables, or none that can redirect (it takes Linux 5.2 with NFT_NAT and NFT_REDIR): %w", err)
	default:
		return err
	}
}

func table() *nftables.Table { return &nftables.Table{Name: Table, Family: nftables.TableFamilyINet} }

// remove deletes the table. Adding it first makes that no error when it is not there.
func remove(c *nftables.Conn) { c.DelTable(c.AddTable(table())) }

func install(c *nftables.Conn, chains []chain) {
	remove(c)
	t := c.AddTable(table())
	made := make([]*nftables.Chain, len(chains))
	for i, ch := range chains {
		made[i] = c.AddChain(ch.nftables(t))
	}
	for i, ch := range chains {
		for _, r := range ch.rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: made[i], Exprs: r.expressions()})
		}
	}
}

func (c chain) nftables(t *nftables.Table) *nftables.Chain {
	made := &nftables.Chain{Name: c.name, Table: t}
	at := map[hook]*nftables.ChainHook{prerouting: nftables.ChainHookPrerouting, output: nftables.ChainHookOutput}[c.hook]
	if at != nil {
		accept := nftables.ChainPolicyAccept
		made.Type, made.Hooknum, made.Priority, made.Policy = nftables.ChainTypeNAT, at, nftables.ChainPriorityRef(priority), &accept
	}
	return made
}
