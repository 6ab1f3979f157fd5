package walarchive

import (
	"encoding/binary"
	"path"
	"strconv"
	"strings"
)

// pageSize is PostgreSQL's block size; other builds are refused where the control file is read.
const pageSize = 8192

// relationBlocks is the number of blocks in a full segment file of a relation.
const relationBlocks = 131072

// checksumLanes are the start values of the parallel hashes of a page checksum, part of PostgreSQL's on-disk format.
var checksumLanes = [32]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

// pageChecksum computes the checksum PostgreSQL keeps in the header of a page of a relation.
func pageChecksum(page *[pageSize]byte, block uint32) uint16 {
	const prime = 16777619
	sums := checksumLanes
	for row := 0; row < pageSize; row += 128 {
		words := (*[128]byte)(page[row : row+128])
		for i := range sums {
			v := binary.LittleEndian.Uint32(words[i*4 : i*4+4])
			if row == 0 && i == 2 {
				v &= 0xFFFF0000 // the checksum itself counts as zero
			}
			x := sums[i] ^ v
			sums[i] = x*prime ^ x>>17
		}
	}
	for range 2 {
		for i, x := range sums {
			sums[i] = x*prime ^ x>>17
		}
	}
	var sum uint32
	for _, x := range sums {
		sum ^= x
	}
	return uint16((sum^block)%65535 + 1)
}

// pageFault says what is wrong with a page.
type pageFault struct {
	lsn       LSN
	have, got uint16
}

// checkPage verifies the checksum of a page; nil: it is right, or the page is new.
func checkPage(page *[pageSize]byte, block uint32) *pageFault {
	if binary.LittleEndian.Uint16(page[14:]) == 0 { // pd_upper: a page that was never used
		return nil
	}
	have := binary.LittleEndian.Uint16(page[8:])
	if got := pageChecksum(page, block); got != have {
		return &pageFault{lsn: LSN(binary.LittleEndian.Uint32(page[0:]))<<32 | LSN(binary.LittleEndian.Uint32(page[4:])), have: have, got: got}
	}
	return nil
}

// relationFile tells whether a path below the data directory is a file of pages with checksums, and the number of its
// first block.
func relationFile(p string) (first uint32, ok bool) {
	top, _, _ := strings.Cut(p, "/")
	if top != "base" && top != "global" && top != "pg_tblspc" {
		return 0, false
	}
	name, segment, cut := strings.Cut(path.Base(p), ".")
	if cut {
		n, err := strconv.ParseUint(segment, 10, 16)
		if err != nil {
			return 0, false
		}
		first = uint32(n) * relationBlocks
	}
	digits, fork, _ := strings.Cut(name, "_")
	switch fork {
	case "", "fsm", "vm", "init":
	default:
		return 0, false
	}
	_, err := strconv.ParseUint(digits, 10, 32)
	return first, err == nil
}
