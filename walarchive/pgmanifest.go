package walarchive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// pgManifest is PostgreSQL's own backup_manifest.
type pgManifest struct {
	Files []pgManifestFile `json:"Files"`
}

// pgManifestFile is one file of a backup_manifest. Paths that are not UTF-8 are hexadecimal.
type pgManifestFile struct {
	Path        string `json:"Path"`
	EncodedPath string `json:"Encoded-Path"`
	Size        int64  `json:"Size"`
	Algorithm   string `json:"Checksum-Algorithm"`
	Checksum    string `json:"Checksum"`
}

// parsePGManifest decodes a backup_manifest after checking its own checksum, which covers all lines but the last.
func parsePGManifest(text []byte) (pgManifest, error) {
	var m pgManifest
	body := bytes.TrimRight(text, "\n")
	cut := bytes.LastIndexByte(body, '\n')
	if cut < 0 {
		return m, errors.New("backup_manifest: it has one line only")
	}
	var last struct {
		Checksum string `json:"Manifest-Checksum"`
	}
	if err := json.Unmarshal(append([]byte("{"), body[cut+1:]...), &last); err != nil {
		return m, fmt.Errorf("backup_manifest: its last line: %w", err)
	}
	if sum := sha256.Sum256(text[:cut+1]); hex.EncodeToString(sum[:]) != last.Checksum {
		return m, errors.New("backup_manifest: its checksum does not fit its text")
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, fmt.Errorf("backup_manifest: %w", err)
	}
	for i, f := range m.Files {
		if f.EncodedPath == "" {
			continue
		}
		raw, err := hex.DecodeString(f.EncodedPath)
		if err != nil {
			return m, fmt.Errorf("backup_manifest: path of file %d: %w", i, err)
		}
		m.Files[i].Path = string(raw)
	}
	return m, nil
}

// crcText is a CRC-32C as backup_manifest writes it: the bytes of a little-endian machine.
func crcText(crc uint32) string {
	return hex.EncodeToString([]byte{byte(crc), byte(crc >> 8), byte(crc >> 16), byte(crc >> 24)})
}

// compareWithManifest checks what arrived against what the server says it sent. The sums are by path.
func compareWithManifest(m pgManifest, have map[string]sentFile) error {
	var faults []error
	listed := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		listed[f.Path] = true
		got, ok := have[f.Path]
		switch {
		case !ok:
			faults = append(faults, fmt.Errorf("%s is in the manifest and did not arrive", f.Path))
		case got.size != f.Size:
			faults = append(faults, fmt.Errorf("%s: %d bytes arrived, the manifest says %d", f.Path, got.size, f.Size))
		case f.Algorithm == "CRC32C" && crcText(got.crc) != f.Checksum:
			faults = append(faults, fmt.Errorf("%s: checksum %s, the manifest says %s", f.Path, crcText(got.crc), f.Checksum))
		}
	}
	for p := range have {
		if !listed[p] {
			faults = append(faults, fmt.Errorf("%s arrived and is not in the manifest", p))
		}
	}
	if len(faults) > 20 {
		faults = append(faults[:20], fmt.Errorf("and %d more", len(faults)-20))
	}
	return errors.Join(faults...)
}

// sentFile is what arrived of one file.
type sentFile struct {
	size int64
	crc  uint32
}
