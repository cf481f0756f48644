package main

import (
	"os"
	"path/filepath"
	"regexp"

	"github.com/spf13/cobra"
)

// pluginFile is this program's name as a plugin of kubectl, which then runs it for `kubectl sherd`.
const pluginFile = "kubectl-sherd"

// invokedAs is how the user calls this program.
func invokedAs() string {
	if filepath.Base(os.Args[0]) == pluginFile {
		return "kubectl sherd"
	}
	return "sherd"
}

// called finds this program's name where it begins a command in a text: in backticks or quotation marks, or after the blanks of an example.
var called = regexp.MustCompile("(?m)(^ +|[`\"|] ?|: )sherd( [a-z-]|$)")

// asCalled writes commands in a text as the user calls them.
func asCalled(name, text string) string {
	if name == "sherd" {
		return text
	}
	return called.ReplaceAllString(text, "${1}"+name+"${2}")
}

// rename has a command and all below it speak of this program as the user calls it.
func rename(c *cobra.Command, name string) {
	if name == "sherd" {
		return
	}
	if !c.HasParent() {
		c.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: name}
	}
	c.Short, c.Long, c.Example = asCalled(name, c.Short), asCalled(name, c.Long), asCalled(name, c.Example)
	for _, sub := range c.Commands() {
		rename(sub, name)
	}
}
