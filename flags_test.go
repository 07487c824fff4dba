package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"holdline/cmd"
)

// No flag of any command takes a number or a duration below 0, and neither does its variable.
func TestNegativeFlags(t *testing.T) {
	parse := func(args ...string) error {
		_, err := cmd.Parser(reflect.New(reflect.TypeOf(holdline)).Interface()).Parse(args)
		return err
	}
	checked := 0
	for _, command := range cmd.Parser(&holdline).Model.Leaves(true) {
		args := strings.Fields(command.Path())
		for _, argument := range command.Positional {
			if argument.Required {
				args = append(args, "1")
			}
		}
		flags := flagsOf(command)
		for _, flag := range flags {
			if flag.Required {
				args = append(args, "--"+flag.Name+"=1")
			}
		}
		for _, flag := range flags {
			below := negative(flag)
			if below == "" {
				continue
			}
			checked++
			if err := parse(append(args, "--"+flag.Name+"="+below)...); err == nil || !strings.Contains(err.Error(), "--"+flag.Name) {
				t.Errorf("%s --%s=%s: got %v, want an error that names the flag", command.Path(), flag.Name, below, err)
			}
			for _, name := range flag.Envs {
				t.Run(name, func(t *testing.T) {
					t.Setenv(name, below)
					if err := parse(args...); err == nil || !strings.Contains(err.Error(), "--"+flag.Name) {
						t.Errorf("%s, %s=%s: got %v, want an error that names the flag", command.Path(), name, below, err)
					}
				})
			}
		}
	}
	if checked < 20 {
		t.Errorf("%d flags checked, want all that have a number or a duration", checked)
	}
}

func flagsOf(command *kong.Node) (all []*kong.Flag) {
	for _, flags := range command.AllFlags(false) {
		all = append(all, flags...)
	}
	return all
}

// negative is a value below 0 for a flag; empty if its values are no numbers or durations.
func negative(flag *kong.Flag) string {
	kind := flag.Target.Type()
	if kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	switch {
	case kind == reflect.TypeFor[time.Duration]():
		return "-1s"
	case kind.PkgPath() != "": // such as a slog.Level
		return ""
	case kind.ConvertibleTo(reflect.TypeFor[float64]()):
		return "-1"
	}
	return ""
}
