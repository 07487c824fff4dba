package main

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"holdline/cmd"
	momv1 "holdline/gen/mom/v1"
	"holdline/internal/contract"
	"holdline/internal/route"
)

var update = flag.Bool("update", false, "write the generated tables of docs/reference.md")

const reference = "docs/reference.md"

// The tables of the reference that can be made from the code are what the code says: headers,
// reasons, and every flag of every command.
func TestReference(t *testing.T) {
	page := read(t, reference)
	for name, table := range map[string]string{
		"request headers":  headerTable(contract.FromCaller),
		"response headers": headerTable(contract.FromHoldline),
		"reasons":          reasonTable(t),
		"commands":         commandTables(t),
	} {
		begin := "<!-- generated: " + name + " -->\n"
		before, rest, found := strings.Cut(page, begin)
		got, after, ended := strings.Cut(rest, "<!-- end -->\n")
		switch {
		case !found || !ended:
			t.Errorf("%s has no place for the %s", reference, name)
		case *update:
			page = before + begin + table + "<!-- end -->\n" + after
		case got != table:
			t.Errorf("the %s are not those of the code; `go test . -run TestReference -update` writes them", name)
		}
	}
	if *update {
		if err := os.WriteFile(reference, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func headerTable(from contract.Sender) string {
	var out strings.Builder
	out.WriteString("\n| header | meaning |\n| --- | --- |\n")
	for _, header := range contract.Headers {
		if header.From == from {
			fmt.Fprintf(&out, "| `%s` | %s |\n", header.Name, header.Doc)
		}
	}
	return out.String() + "\n"
}

// reasonTable has the texts of the schema, and code and status as callers get them.
func reasonTable(t *testing.T) string {
	t.Helper()
	schemas, err := route.LoadSchemas()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	out.WriteString("\n| reason | code | HTTP | meaning |\n| --- | --- | ---: | --- |\n")
	values := momv1.Reason(0).Descriptor().Values()
	for i := 1; i < values.Len(); i++ { // 0 is never sent
		reason := momv1.Reason(values.Get(i).Number())
		answer := httptest.NewRecorder()
		err := contract.Errorf(reason, "said")
		contract.WriteError(answer, httptest.NewRequest(http.MethodPost, "/a.B/C", nil), err)
		terms := fmt.Sprintf("%s; HTTP %d.", err.Code(), answer.Code)
		text, ok := strings.CutSuffix(schemas.Comment(values.Get(i)), terms)
		if !ok {
			t.Errorf("the schema says of %s %q, want it to end with %q", reason, text, terms)
		}
		fmt.Fprintf(&out, "| `%s` | `%s` | %d | %s |\n", contract.Name(reason), err.Code(), answer.Code, strings.TrimSpace(text))
	}
	return out.String() + "\n"
}

// commandTables shows each command with its arguments and flags.
func commandTables(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", "/XDG_STATE_HOME")
	var out strings.Builder
	for _, command := range cmd.Parser(&holdline).Model.Leaves(true) {
		fmt.Fprintf(&out, "\n### holdline %s\n\n%s\n", command.Path(), command.Help)
		rows := rowsOf(command)
		if len(rows) > 0 {
			out.WriteString("\n| flag | default | variable | meaning |\n| --- | --- | --- | --- |\n" + strings.Join(rows, ""))
		}
	}
	return strings.ReplaceAll(out.String(), "/XDG_STATE_HOME", "$XDG_STATE_HOME") + "\n"
}

func rowsOf(command *kong.Node) (rows []string) {
	for _, argument := range command.Positional {
		rows = append(rows, row(strings.ToUpper(argument.Name), argument))
	}
	for _, flags := range command.AllFlags(true) {
		for _, f := range flags {
			if f.Name == "help" || f.Name == "version" {
				continue // every command has them
			}
			name := "--" + f.Name
			if f.Short != 0 {
				name = "-" + string(f.Short) + ", " + name
			}
			if f.PlaceHolder != "" {
				name += " " + f.PlaceHolder
			}
			rows = append(rows, row(name, f.Value))
		}
	}
	return rows
}

func row(name string, v *kong.Value) string {
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", name, code(v.Default), code(strings.Join(v.Tag.Envs, ", ")), strings.TrimSuffix(v.Help, "."))
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

// rows are the rows of the reference's tables that have two cells.
func rows(t *testing.T) [][]string {
	t.Helper()
	return regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(read(t, reference), -1)
}

// The reference says of each state what a reader of such a task without an answer gets.
func TestReferenceStates(t *testing.T) {
	t.Parallel()
	rows := rows(t)
	for number := range momv1.TaskState_name {
		state := momv1.TaskState(number)
		want := "202"
		if err := contract.TaskError(&momv1.Task{State: state}, nil); !contract.IsOpen(state) {
			want = contract.Name(contract.ReasonOf(err))
		}
		if number != 0 && !slices.ContainsFunc(rows, func(row []string) bool {
			return strings.Contains(row[1], contract.StateName(state)) && strings.Contains(row[2], want)
		}) {
			t.Errorf("%s does not say %s of a task that is %s", reference, want, contract.StateName(state))
		}
	}
}
