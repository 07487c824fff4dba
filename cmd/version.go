package cmd

import (
	"fmt"
	"io"
	"runtime"
)

// version is set by the linker: -X holdline/cmd.version=…
var version = "dev"

// Version is `holdline version`.
type Version struct{}

// Run prints it.
func (c *Version) Run(out io.Writer) error {
	_, err := fmt.Fprintf(out, "holdline %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
