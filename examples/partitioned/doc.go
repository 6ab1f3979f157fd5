// Command partitioned is one of several workers that share the events of the
// producer by customer: the orders of one customer are mailed in order.
//
//	go run ./examples/partitioned worker1 &
//	go run ./examples/partitioned worker2
package main
