package main

import "testing"

// Every mutant's place is in the code as it is: one that is not tests nothing.
func TestMutantsFitTheCode(t *testing.T) {
	t.Chdir("..") // as `go run -C tools ./mutants` does
	for _, m := range mutants {
		if _, err := mutate(m, t.TempDir()); err != nil {
			t.Errorf("%s: %q: %v", m.file, m.old, err)
		}
	}
}
