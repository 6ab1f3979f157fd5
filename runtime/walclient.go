package runtime

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/skytools/skyd/configs"
	"github.com/skytools/skyd/walarchive"
)

// WALClient is the shell command that runs push or fetch of a source: the small client when it stands beside this
// program, else this program. The names of the file follow as arguments.
func WALClient(w walarchive.Config, op, configFile string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	if self, err = filepath.EvalSymlinks(self); err != nil {
		return "", err
	}
	if configFile == "" {
		configFile = configs.DefaultFile
	}
	if configFile, err = filepath.Abs(configFile); err != nil {
		return "", err
	}
	words := []string{self, "wal", op}
	if client := filepath.Join(filepath.Dir(self), "skyd-wal"); isProgram(client) {
		words = []string{client, op}
	}
	words = append(words, "--source="+w.Source, "--socket="+w.Socket, "--config="+configFile)
	for i, word := range words {
		words[i] = ShellWord(word)
	}
	return strings.Join(words, " "), nil
}

// isProgram reports whether a file can be run.
func isProgram(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// ShellWord quotes a word for the shell and for archive_command, where a percent sign stands for a file name.
func ShellWord(word string) string {
	word = strings.ReplaceAll(word, "%", "%%")
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-=+:@,%") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
