package cmd

import (
	"fmt"
	"io"
	"runtime"

	"github.com/alecthomas/kong"
)

// version is set by the linker: -X holdline/cmd.version=…
var version = "dev"

func versionLine() string {
	return fmt.Sprintf("holdline %s %s %s/%s", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// VersionFlag is `holdline --version`. Unlike kong's, it fails if nobody can read the version.
type VersionFlag bool

// BeforeReset prints the version in place of what the rest of the command line says.
func (VersionFlag) BeforeReset(app *kong.Kong) error {
	if _, err := fmt.Fprintln(app.Stdout, versionLine()); err != nil {
		return err
	}
	app.Exit(0)
	return nil
}

// Version is `holdline version`.
type Version struct{}

// Run prints it.
func (c *Version) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, versionLine())
	return err
}
