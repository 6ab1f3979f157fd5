package demo

import (
	"os/exec"
	"testing"
)

// sh runs a shell command as a user would who copies it from the screen.
func sh(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", "cd / && "+command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}
