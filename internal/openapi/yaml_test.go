package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"

	"go.yaml.in/yaml/v4"
)

// What is written is read as the same, whatever YAML makes of words and signs.
func TestWriter(t *testing.T) {
	t.Parallel()
	texts := []string{
		"", " ", "a", "a b", " a", "a ", "a  b", "yes", "Null", "true", "off", "1", "1.5", "1e3", "0x1f", ".inf", "-", "- a", "a - b", "a: b", "a:", ":a",
		"a #b", "#a", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a`", "{a}", "[a]", "a, b", "'a'", `"a"`, `a\b`, "a\nb", "a\n\nb\n", "\ta", "a\tb", "a\r\nb",
		"\x00", "\x07\x1b\x7f", "\u0085\u00a0\u2028\ufeff", "\U0001f600", "ünï", "/v1/tasks/{id}", "$ref", "2030-01-01", "=", "<<", "~", "a'b", "?", "? a",
	}
	all := object{}
	want := map[string]any{}
	for i, text := range texts {
		key := fmt.Sprint("text ", i)
		all = append(all, field{key, text}, field{text + "!", i})
		want[key], want[text+"!"] = text, i
	}
	all = append(all,
		field{"empty", object{{"object", object{}}, {"objects", []object{}}, {"texts", []string{}}, {"anything", []any{}}, {"fields", fields(slices.Values(object{}))}}},
		field{"lists", object{{"texts", texts}, {"objects", []object{{{"a", 1}, {"b", object{{"c", true}}}}, {}, {{"d", []object{{{"e", 1.5}}}}}}}}},
		field{"fields", fields(slices.Values(object{{"a", later(func() any { return "b" })}}))},
		field{"json", json.RawMessage("{\"a\": [1, \"<b>\", {\"c\": null}]}\n")},
	)
	list := make([]any, len(texts))
	for i, text := range texts {
		list[i] = text
	}
	want["empty"] = map[string]any{"object": map[string]any{}, "objects": []any{}, "texts": []any{}, "anything": []any{}, "fields": map[string]any{}}
	want["lists"] = map[string]any{"texts": list, "objects": []any{
		map[string]any{"a": 1, "b": map[string]any{"c": true}}, map[string]any{}, map[string]any{"d": []any{map[string]any{"e": 1.5}}},
	}}
	want["fields"] = map[string]any{"a": "b"}
	want["json"] = map[string]any{"a": []any{1, "<b>", map[string]any{"c": nil}}}

	var out bytes.Buffer
	w := &writer{out: &out}
	w.mapping(slices.Values(all), "", true)
	var got map[string]any
	if err := yaml.Unmarshal(out.Bytes(), &got); err != nil || w.err != nil {
		t.Fatalf("%v, %v\n%s", w.err, err, &out)
	}
	for key := range want {
		if !reflect.DeepEqual(got[key], want[key]) {
			t.Errorf("%q: read %#v, want %#v", key, got[key], want[key])
		}
	}
	if len(got) != len(want) {
		t.Errorf("read %d fields, want %d", len(got), len(want))
	}
}
