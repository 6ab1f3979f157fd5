package walarchive_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/skytools/skyd/walarchive"
)

const testSystem = 7300000000000000001

// segment makes the content of a segment with page headers and one record that fills it, or, with used < size, records up
// to there and a switch.
func segment(name string, size, used uint32) []byte {
	const page = 8192
	start, err := walarchive.SegmentStart(name, size)
	if err != nil {
		panic(err)
	}
	out, le := make([]byte, size), binary.LittleEndian
	for at := uint32(0); at < used; at += page {
		p := out[at : at+page]
		le.PutUint16(p, 0xD110)
		le.PutUint32(p[4:], walarchive.SegmentTimeline(name))
		le.PutUint64(p[8:], uint64(start)+uint64(at))
		if at == 0 {
			le.PutUint16(p[2:], 2)
			le.PutUint64(p[24:], testSystem)
			le.PutUint32(p[32:], size)
			le.PutUint32(p[36:], page)
		}
	}
	// One record per page fills it, so that the last one ends where the page does; the last page has the switch.
	for at := uint32(0); at < used; at += page {
		begin := at + 24
		if at == 0 {
			begin = 40
		}
		rec := out[begin : at+page]
		if used < size && at+page >= used {
			le.PutUint32(rec, 24)
			rec[16] = 0x40
			continue
		}
		le.PutUint32(rec, uint32(len(rec)))
		for i := 24; i < len(rec); i++ {
			rec[i] = byte(i * 7)
		}
	}
	return out
}

func TestCheckSegment(t *testing.T) {
	t.Parallel()
	const name, size = "000000010000000000000003", 1 << 20
	whole, closed := segment(name, size, size), segment(name, size, 64*8192)
	change := func(base []byte, f func([]byte) []byte) []byte { return f(bytes.Clone(base)) }
	for _, tt := range []struct {
		what    string
		content []byte
		want    string // "" for valid
	}{
		{"whole", whole, ""},
		{"closed early", closed, ""},
		{"empty file", nil, "0 bytes"},
		{"cut to half", whole[:size/2], "has 524288 bytes"},
		{"cut to a page", whole[:8192], "has 8192 bytes"},
		{"longer", append(bytes.Clone(whole), 0), "has 1048577 bytes"},
		{"zero tail", change(whole, func(p []byte) []byte { clear(p[size/2:]); return p }), "no switch of segments"},
		{"zero tail in a page", change(closed, func(p []byte) []byte { clear(p[60*8192+100:]); return p }), "no switch of segments"},
		{"recycled tail", change(whole, func(p []byte) []byte {
			copy(p[size/2:], segment("000000010000000000000001", size, size)[size/2:])
			return p
		}), "recycled"},
		{"data behind the switch", change(closed, func(p []byte) []byte { p[size-1] = 1; return p }), "data follow"},
		{"data in the page of the switch", change(closed, func(p []byte) []byte { p[64*8192-1] = 1; return p }), "data follow the switch"},
		{"hole in the middle", change(whole, func(p []byte) []byte { clear(p[8192*10 : 8192*11]); return p }), "but data follow"},
		{"other system", change(whole, func(p []byte) []byte { p[24]++; return p }), "this cluster is"},
		{"other position", segment("000000010000000000000004", size, size), "its name"},
		{"other log", segment("000000010000000100000003", size, size), "its name"},
		{"newer timeline", segment("000000020000000000000003", size, size), "of timeline 2, its name of 1"},
		{"other size", segment("000000010000000000000000", 2<<20, 2<<20)[:1<<20], "a segment has 2097152"},
		{"magic of version 13", change(whole, func(p []byte) []byte { p[0], p[1] = 0x06, 0xD1; return p }), "magic number D106"},
		{"magic of a later page", change(whole, func(p []byte) []byte { p[8192] ^= 1; return p }), "page 1 has the magic"},
		{"timeline goes back", change(whole, func(p []byte) []byte { p[8192+4] = 0; return p }), "timeline 0 after 1"},
		{"no long header", change(whole, func(p []byte) []byte { p[2] = 0; return p }), "no long header"},
		{"segment size of 3 MB", change(whole, func(p []byte) []byte { p[34] = 0x30; return p }), "segment size of"},
		{"text", bytes.Repeat([]byte("x"), size), "magic number 7878"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			info, err := walarchive.CheckSegment(name, testSystem, tt.content)
			switch {
			case tt.want == "" && (err != nil || info.Size != size || info.Major != 15):
				t.Errorf("refused: %v (%+v)", err, info)
			case tt.want != "" && (!errors.Is(err, walarchive.ErrInvalid) || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error = %v, want ErrInvalid with %q", err, tt.want)
			}
		})
	}
}

func TestSegmentNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		size uint32
		next string
	}{
		{"000000010000000000000001", 16 << 20, "000000010000000000000002"},
		{"0000000100000000000000FF", 16 << 20, "000000010000000100000000"},
		{"000000010000000000000FFF", 1 << 20, "000000010000000100000000"},
		{"0000000A0000000000000003", 1 << 30, "0000000A0000000100000000"},
		{"00000001000000000000003F", 64 << 20, "000000010000000100000000"},
	} {
		next, err := walarchive.NextSegment(tt.name, tt.size)
		if err != nil || next != tt.next {
			t.Errorf("after %s of %d comes %q, %v; want %s", tt.name, tt.size, next, err, tt.next)
		}
		start, err := walarchive.SegmentStart(tt.name, tt.size)
		if back := walarchive.SegmentName(walarchive.SegmentTimeline(tt.name), start, tt.size); err != nil || back != tt.name {
			t.Errorf("%s begins at %s, where %s is; %v", tt.name, start, back, err)
		}
	}
	if _, err := walarchive.SegmentStart("000000010000000000000100", 16<<20); err == nil {
		t.Error("segment 100 of 16 MB was taken")
	}
	for name, want := range map[string]walarchive.FileKind{
		"000000010000000000000001": walarchive.WALSegment, "00000002.history": walarchive.HistoryFile,
		"000000010000000000000001.00000028.backup": walarchive.BackupFile, "000000010000000000000001.partial": walarchive.PartialFile,
		"00000001000000000000000g": walarchive.NotWAL, "00000001000000000000000a": walarchive.NotWAL, "RECOVERYXLOG": walarchive.NotWAL,
		"0000000100000000000001": walarchive.NotWAL, "00000002.history.bak": walarchive.NotWAL, "": walarchive.NotWAL,
		"../000000010000000000000001": walarchive.NotWAL, "000000010000000000000001.gz": walarchive.NotWAL,
	} {
		if got := walarchive.KindOf(name); got != want {
			t.Errorf("kind of %q = %d, want %d", name, got, want)
		}
	}
}

func TestParseHistory(t *testing.T) {
	t.Parallel()
	h, err := walarchive.ParseHistory(4, []byte("1\t0/3000060\tno recovery target specified\n\n2\t0/5000000\tbefore 2026\n"))
	if err != nil || len(h) != 2 || h.At(4, 0x3000000) != 1 || h.At(4, 0x3000060) != 2 || h.At(4, 0x5000000) != 4 {
		t.Errorf("history = %v, %v", h, err)
	}
	for _, bad := range []string{"", "x", "1", "1 nowhere", "4\t0/3000060\tx", "2\t0/1\n1\t0/2\n"} {
		if h, err := walarchive.ParseHistory(4, []byte(bad)); !errors.Is(err, walarchive.ErrInvalid) {
			t.Errorf("history %q was read as %v, %v", bad, h, err)
		}
	}
}

func FuzzCheckSegment(f *testing.F) {
	const name, size = "000000010000000000000003", 1 << 20
	f.Add(uint32(size/2), []byte{0, 1, 2})
	f.Add(uint32(24), []byte{0xff, 0xff, 0xff, 0x7f})
	f.Add(uint32(64*8192-8168), []byte{1, 0, 0, 0})
	base := segment(name, size, 64*8192)
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		p := bytes.Clone(base)
		copy(p[min(int(at), size):], patch)
		if _, err := walarchive.CheckSegment(name, testSystem, p); err != nil && !errors.Is(err, walarchive.ErrInvalid) {
			t.Errorf("error = %v", err)
		}
	})
}
