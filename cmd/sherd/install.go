package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/sherd-forensics/sherd/deploy"
)

func newInstall(a *app) *cobra.Command {
	var o deploy.Options
	printIt := false
	var roles strings.Builder
	var names []string
	for _, r := range deploy.Roles {
		fmt.Fprintf(&roles, "  %-12s %s\n", r.Name, r.What)
		names = append(names, r.Name)
	}
	c := &cobra.Command{
		Use:   "install --print",
		Short: "print what a cluster may have installed in advance: a namespace and roles",
		Long: `Install prints manifests for kubectl: Sherd's namespace, with the labels by which Pod Security lets collectors in, and roles for those who are to work with
it. Nothing of it runs. Without it Sherd works too, for whoever may make namespaces and jobs: what is missing is made for a capture and taken away after it.

The roles, of which those given with --roles are bound to those named:

` + roles.String() + `
Whoever captures or contains may look, too. To give roles to different people, run it once for each. The same is in deploy/kustomize and deploy/helm.`,
		Example: `  sherd install --print --group responders | kubectl apply -f -
  sherd install --print --roles look --user lara | kubectl apply -f -
  sherd install --print --roles capture --group responders --image registry.example/sherd-collector:1.2 --pull-secret registry
  sherd install --print --roles capture,contain --serviceaccount ci:incident > sherd.yaml`,
		Args: exactly(0, ""),
		RunE: func(*cobra.Command, []string) error {
			if !printIt {
				return usagef("nothing is installed by this program itself: look at what it would be, and apply it: sherd install --print | kubectl apply -f -")
			}
			if why := validation.IsDNS1123Label(o.Namespace); len(why) > 0 {
				return usagef("--namespace %q: %s", o.Namespace, why[0])
			}
			if o.Pull != "" && !slices.Contains([]string{"Always", "IfNotPresent", "Never"}, o.Pull) {
				return usagef("--pull is Always, IfNotPresent or Never, not %q", o.Pull)
			}
			b, err := deploy.Manifests(o)
			if err != nil {
				return &usageError{err}
			}
			_, err = a.out.Write(b)
			return err
		},
	}
	f := c.Flags()
	f.BoolVar(&printIt, "print", false, "print the manifests")
	f.StringVarP(&o.Namespace, "namespace", "n", "sherd", "`NAMESPACE` of Sherd's own")
	f.StringSliceVar(&o.Roles, "roles", deploy.Usual, "which `ROLES`: "+strings.Join(names, ", "))
	f.StringArrayVar(&o.Users, "user", nil, "a `USER` who gets the roles (repeatable)")
	f.StringArrayVar(&o.Groups, "group", nil, "a `GROUP` that gets the roles (repeatable)")
	f.StringArrayVar(&o.Accounts, "serviceaccount", nil, "a service account that gets the roles: `NAMESPACE:NAME` (repeatable)")
	f.StringVar(&o.Image, "image", "", "`IMAGE` of the collector that is used when whoever captures names none")
	f.StringVar(&o.Pull, "pull", "", "when nodes pull it: Always, IfNotPresent or Never")
	f.StringArrayVar(&o.Secrets, "pull-secret", nil, "`SECRET` of that namespace to pull it with (repeatable)")
	return c
}
