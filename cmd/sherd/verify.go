package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/cmd/internal/acquire"
	"github.com/sherd-forensics/sherd/cmd/internal/console"
	"github.com/sherd-forensics/sherd/evidence"
	"github.com/sherd-forensics/sherd/internal/printable"
)

func newVerify(a *app) *cobra.Command {
	var keys []string
	var noCustody bool
	c := &cobra.Command{
		Use:   "verify EVIDENCE",
		Short: "check that every byte of a package is as it was sealed",
		Long: `Verify reads a whole package and recomputes every hash, the signature over the bytes as written, the seek table and
the chain of custody. It exits with 0 only if every byte is as sealed by a key that is trusted: your own, one
in the folder "trusted" beside it, or one given with --key. A package that went straight from a node to an object store is signed by its
collector, whose key nobody can know: for it the receipt beside it counts, which a trusted key signed.

Given a log of custody, FILE.custody.jsonl, it checks that alone: that no line of it was changed, moved, added or removed but at its end.`,
		Example: `  sherd verify checkout-20261123T031502Z.sherd
  sherd verify --key kira.pub case7.sherd`,
		Args: exactly(1, "the package to verify"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if log, ok := strings.CutSuffix(args[0], ".custody.jsonl"); ok {
				return verifyCustody(a, log, keys)
			}
			return verify(cmd, a, args[0], keys, noCustody)
		},
	}
	c.Flags().StringArrayVarP(&keys, "key", "k", nil, "trust only the public key in `FILE` (repeatable)")
	c.Flags().BoolVar(&noCustody, "no-custody", false, "do not add this check to the package's custody log")
	a.identityFlag(c)
	return c
}

func verify(cmd *cobra.Command, a *app, path string, keys []string, noCustody bool) error {
	ids, err := evidence.LoadIdentities(a.ids)
	if err != nil {
		return err
	}
	trusted, err := evidence.LoadTrusted(keys)
	if err != nil {
		return err
	}
	p := a.progress(nil)
	p.Stage("verifying " + printable.Text(path))
	r, err := evidence.Verify(cmd.Context(), path, evidence.VerifyOptions{Identities: ids, Trusted: trusted})
	p.Done()
	if err != nil && r == nil {
		return err
	}
	receipt := ""
	var unknown *evidence.UnknownSignerError
	if errors.As(err, &unknown) && unknown.Ephemeral {
		if receipt = vouched(path, r.SHA256, trusted); receipt != "" {
			err = nil
		}
	}
	if !noCustody {
		note := "intact"
		if err != nil {
			note = "failed: " + err.Error()
		}
		if cerr := acquire.Handled(path, "verified", tool, r.ID, r.SHA256, note); cerr != nil {
			a.note("custody not recorded: %v", cerr)
		}
	}
	if err != nil {
		for _, problem := range r.Problems {
			fmt.Fprintf(a.out, "✗ %s\n", printable.Text(problem))
		}
		var altered *evidence.AlteredError
		if errors.As(err, &altered) {
			return fmt.Errorf("%s is NOT as it was sealed: %w", printable.Text(path), err)
		}
		return fmt.Errorf("%s: %w", printable.Text(path), err)
	}
	fmt.Fprintf(a.out, "✓ every byte is as sealed   %s in %s\n", console.Bytes(r.Size), console.Plural(r.Artifacts, "artifact"))
	fmt.Fprintf(a.out, "  sha256   %s\n", r.SHA256)
	fmt.Fprintf(a.out, "  signed   by %s  %s\n", printable.Text(r.Signer), r.KeyID)
	if receipt != "" {
		fmt.Fprintf(a.out, "  receipt  %s\n", receipt)
	}
	fmt.Fprintf(a.out, "  evidence %s\n", r.ID)
	return nil
}

// vouched says who received a package from a collector whose key nobody can know, and signed its hash: a package that went from its node to an
// object store has a receipt as the first entry of its custody. "" if there is none by a key that is trusted.
func vouched(path, sum string, trusted []evidence.PublicKey) string {
	c, err := evidence.VerifyCustody(path, trusted)
	if err != nil || len(c.Problems) > 0 || len(c.Entries) == 0 {
		return ""
	}
	e := c.Entries[0]
	if e.Action != "uploaded" || e.SHA256 != sum || len(e.Sig) == 0 {
		return ""
	}
	for _, t := range trusted {
		if bytes.Equal(t.Key, e.PublicKey) {
			return fmt.Sprintf("of %s, signed by %s  %s", printable.Text(e.Time), printable.Text(e.Actor), t.ID())
		}
	}
	return ""
}

// verifyCustody checks a log of custody without its package: that of isolations has none.
func verifyCustody(a *app, path string, keys []string) error {
	trusted, err := evidence.LoadTrusted(keys)
	if err != nil {
		return err
	}
	r, err := evidence.VerifyCustody(path, trusted)
	if err != nil {
		return fmt.Errorf("reading the chain of custody: %w", err)
	}
	name := printable.Text(evidence.CustodyPath(path))
	if len(r.Problems) > 0 {
		for _, problem := range r.Problems {
			fmt.Fprintf(a.out, "✗ %s\n", printable.Text(problem))
		}
		return fmt.Errorf("%s is NOT as it was written", name)
	}
	entries := fmt.Sprintf("%d entries", len(r.Entries))
	if len(r.Entries) == 1 {
		entries = "1 entry"
	}
	fmt.Fprintf(a.out, "✓ the chain is whole   %s, %d signed, %d of them by a key that is trusted\n  head     %s\n", entries, r.Signed, r.Trusted, r.Head)
	if r.Torn {
		fmt.Fprintln(a.out, "! its last line is cut short: the machine stopped while it was written")
	}
	return nil
}
