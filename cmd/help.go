package cmd

import (
	"strings"

	"github.com/alecthomas/kong"
)

// Help is `holdline help`.
type Help struct {
	Command []string `arg:"" optional:"" help:"The command, such as: task wait."`
}

// Run prints what the command's --help prints.
func (c *Help) Run(parser *kong.Kong) error {
	named, err := kong.Trace(parser, c.Command)
	if err != nil {
		return err
	}
	if named.Error != nil {
		return usagef("there is no command %q; holdline help lists them", strings.Join(c.Command, " "))
	}
	return named.PrintUsage(false)
}
