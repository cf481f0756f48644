package main

import "github.com/spf13/cobra"

func newInstall(a *app) *cobra.Command { return &cobra.Command{Use: "install"} }
