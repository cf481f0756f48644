package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sherd-forensics/sherd/evidence"
)

func newKey(a *app) *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "key",
		Short: "print the public key that your packages are signed with",
		Long: `Key prints, in PEM, the public half of the key that signs your packages, and makes the key if there is none yet. Give
it to whoever must verify them: they pass it to "sherd verify --key FILE", or put it into
~/.config/sherd/trusted/NAME.pub once.`,
		Example: `  sherd key > kira.pub`,
		Args:    exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			if path == "" {
				path = evidence.DefaultKeyPath()
			}
			k, err := evidence.LoadOrCreateKey(path)
			if err != nil {
				return err
			}
			pem, err := k.PublicPEM()
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.out, string(pem))
			return err
		},
	}
	c.Flags().StringVar(&path, "file", "", "the key `FILE` instead of your own")
	return c
}
