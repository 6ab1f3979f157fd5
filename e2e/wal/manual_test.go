package wal_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestManual_NamesTestsThatExist: every test that the manual of the archive names as its proof is there.
func TestManual_NamesTestsThatExist(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/walarchive.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, pattern := range []string{"*_test.go", "../../walarchive/*_test.go", "../../walarchive/*/*_test.go", "../../runtime/*_test.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, name := range files {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	named := regexp.MustCompile(`Test[A-Z]\w+`).FindAllString(string(manual), -1)
	if len(named) < 40 {
		t.Errorf("the manual names %d tests", len(named))
	}
	for _, name := range named {
		if !strings.Contains(code.String(), "func "+name+"(t *testing.T)") {
			t.Errorf("%s is not there", name)
		}
	}
}
