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

// VersionFlag is `holdline --version`.
type VersionFlag = kong.VersionFlag

// Version is `holdline version`.
type Version struct{}

// Run prints it.
func (c *Version) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, versionLine())
	return err
}
