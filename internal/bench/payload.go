package bench

import (
	"fmt"
	"strconv"
)

// payloadSize is about how long the data of an event is.
const payloadSize = 200

// payload is the data of event n: JSON, because some peers take nothing else, and such that n can be read back also
// when the server has written the JSON anew.
func payload(n int) string {
	const filler = "order 4711, 3 x blue widget (large), to be sent by parcel before friday noon, " +
		"customer asks for a gift wrapping & a card, weight 1.25 kg, paid = yes, note: ring twice at the door"
	return fmt.Sprintf(`{"n":"%08d","p":"%s"}`, n, filler[:payloadSize-23])
}

// payloads are the data of n events, from event from on.
func payloads(from, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = payload(from + i)
	}
	return all
}

// number reads the number of an event from its data; -1 when there is none.
func number(data string) int {
	digits := 0
	for i := range len(data) {
		if data[i] < '0' || data[i] > '9' {
			digits = 0
			continue
		}
		if digits++; digits == 8 {
			n, err := strconv.Atoi(data[i-7 : i+1])
			if err != nil {
				return -1
			}
			return n
		}
	}
	return -1
}
