// Command leaf is a leaf of a cascade whose events go into a table: what the
// worker of a node does with the events is Go code here, the rest is skyd. The
// applier works in the transaction that moves the node's position, so every
// event is in the table exactly once, whatever is killed.
//
//	skyd node create leaf --queue orders --node l1 --location "$DSN" --provider "$PROVIDER" --db "$DSN"
//	SKYD_DSN=$DSN SKYD_NODE=l1 go run ./examples/leaf
package main
