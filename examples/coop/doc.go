// Command coop is one of several workers that share the events of the producer,
// in no particular order:
//
//	go run ./examples/coop worker1 &
//	go run ./examples/coop worker2
package main
