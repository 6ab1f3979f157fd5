package walarchive

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
)

// ErrNoKey is returned when an encrypted object is to be read and no configured identity opens it.
var ErrNoKey = errors.New("no key for the encrypted repository: set encryption.identity_file")

// keys are what encryption needs, read from the files. nil: no encryption.
type keys struct {
	recipients []age.Recipient // none: to read only
	names      []string        // of the recipients, sorted
	identities []age.Identity
	tagKey     []byte // nil, to read only: age alone proves what is read
}

// loadKeys reads the key files; nil without encryption. Without recipients the keys are good for reading.
func loadKeys(c Encryption) (*keys, error) {
	if len(c.Recipients) == 0 && c.IdentityFile == "" {
		if c.TagKeyFile != "" {
			return nil, errors.New("encryption.recipients is missing: whose keys may open what is written")
		}
		return nil, nil
	}
	k := &keys{names: slices.Sorted(slices.Values(c.Recipients))}
	for i, text := range c.Recipients {
		rs, err := age.ParseRecipients(strings.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("encryption.recipients[%d]: %w", i, err)
		}
		k.recipients = append(k.recipients, rs...)
	}
	if c.IdentityFile != "" {
		text, err := os.ReadFile(c.IdentityFile)
		if err != nil {
			return nil, fmt.Errorf("encryption.identity_file: %w", err)
		}
		if k.identities, err = age.ParseIdentities(bytes.NewReader(text)); err != nil {
			return nil, fmt.Errorf("encryption.identity_file %s: it holds no age identity", c.IdentityFile)
		}
	}
	if c.TagKeyFile == "" && len(c.Recipients) == 0 {
		return k, nil
	}
	if c.TagKeyFile == "" {
		return nil, errors.New("encryption.tag_key_file is missing: encrypted objects are compared with it")
	}
	text, err := os.ReadFile(c.TagKeyFile)
	if err != nil {
		return nil, fmt.Errorf("encryption.tag_key_file: %w", err)
	}
	if k.tagKey, err = hex.DecodeString(strings.TrimSpace(string(text))); err != nil || len(k.tagKey) != 32 {
		return nil, fmt.Errorf("encryption.tag_key_file %s: it must hold 64 hex digits", c.TagKeyFile)
	}
	return k, nil
}

// MakeTagKey makes the tag key file unless it is there.
func MakeTagKey(c Encryption) error {
	if len(c.Recipients) == 0 || c.TagKeyFile == "" {
		return nil
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	f, err := os.OpenFile(c.TagKeyFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("encryption.tag_key_file: %w", err)
	}
	_, err = fmt.Fprintln(f, hex.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("encryption.tag_key_file %s: %w", filepath.Base(c.TagKeyFile), err)
	}
	return nil
}

// tagKeyID names a tag key without giving it away.
func (k *keys) tagKeyID() string {
	if k == nil || k.tagKey == nil {
		return ""
	}
	sum := sha256.Sum256(append([]byte("skyd tag key id: "), k.tagKey...))
	return hex.EncodeToString(sum[:8])
}

// seal is a writer whose content arrives encrypted at w.
func (k *keys) seal(w io.Writer) (io.WriteCloser, error) {
	if len(k.recipients) == 0 {
		return nil, fmt.Errorf("%w: encryption.recipients is missing: nothing can be written to the encrypted repository", errUsage)
	}
	e, err := age.Encrypt(w, k.recipients...)
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return e, nil
}

// encrypt appends an age file with the content to w.
func (k *keys) encrypt(w io.Writer, content []byte) error {
	e, err := k.seal(w)
	if err != nil {
		return err
	}
	if _, err := e.Write(content); err != nil {
		return fmt.Errorf("encrypt: %w", err)
	}
	return e.Close()
}

// decrypt opens an age file that was made for recipients.
func (k *keys) decrypt(r io.Reader, recipients []string) (io.Reader, error) {
	whose := ""
	if len(recipients) > 0 {
		whose = "; this object is for " + strings.Join(recipients, ", ")
	}
	if len(k.identities) == 0 {
		return nil, fmt.Errorf("%w%s", ErrNoKey, whose)
	}
	clear, err := age.Decrypt(r, k.identities...)
	if none := (*age.NoIdentityMatchError)(nil); errors.As(err, &none) {
		return nil, fmt.Errorf("%w to a file that holds the right key, beside those it has%s", ErrNoKey, whose)
	}
	return clear, err
}
