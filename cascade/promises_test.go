package cascade_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// promises names, for each promise of a cascade and each weakness of the original that must be absent, the tests that fail
// without it. A test is named by its directory and name.
var promises = map[string]string{
	"1 resumable and cancellable, killed at any moment": `cascade TestSwitchover_KilledAtEveryStep, cascade TestSwitchover_ConnectionsCutAtEveryStep,
		cascade TestSwitchover_ServerKilledAtEveryStep, cascade TestFailover_KilledAtEveryStep, cascade TestKeeper_EndsWhatNobodyDrives,
		cascade TestAdopt_TakeoverOfTheOriginalKilledAfterEveryCall, cascade TestSimulation_SwitchoversLoseNothing, e2e TestDrill_NothingLostOneRoot`,
	"2 dry run, plan, exit codes":             `cmd/skyd TestNodeCommands_Session, cmd/skyd TestNodeTakeover_ThereAndBack, cmd/skyd TestNodeResurrect_SavesWhatNeverLeft`,
	"3 lag guard and limit of the outage":     `cascade TestSwitchover_Refusals, cascade TestDecide_EveryRowOfTheTable, cascade TestSwitchover_ThereAndBackUnderLoad`,
	"4 closed for every isolation level":      `pgqsql TestNode_NobodyWritesBehindTheFinalTick, pgqsql TestNode_ClosedQueueOpenedByTheFlagAlone, cascade TestSwitchover_ThereAndBackUnderLoad`,
	"5 terms":                                 `cascade TestFailover_BehindSiblingAndReturn, cascade TestGuard_CommitPointsBelongToOneRow, cascade TestSimulation_SwitchoversLoseNothing`,
	"6 failover feeds and moves in order":     `cascade TestFailover_BehindSiblingAndReturn, cascade TestMostAdvanced_TheHighestTickThenTheWantedThenTheName, cascade TestFailover_KilledAtEveryStep`,
	"7 advice in place of automatic failover": `cascade TestFailover_BehindSiblingAndReturn`, // ADR 0035
	"8 fence and resurrect":                   `cascade TestFailover_BehindSiblingAndReturn, cmd/skyd TestNodeResurrect_SavesWhatNeverLeft`,
	"9 topology":                              `cascade TestTopology_WithDeadAndSilentMembers, cmd/skyd TestNodeCommands_Session, cmd/skyd TestNodeStatus_JSONIsOneDocumentWithItsCascades`,
	"10 supervision, pause within a second":   `cascade TestPauseIsSeen, actors TestNode_HangsAndPanics, actors TestNode_AttendsWhileItWaits, runtime TestNodes_TwoDaemons`,
	"11 mixed cascades":                       `e2e TestMixed_LondisteUnderSkyd, e2e TestMixed_PythonRootAndLeaf, e2e TestMixed_MergeLeafs`,
	"12 traces and metrics":                   `runtime TestNodes_AreSeen, actors TestOperations_KeepsWhatMatters`,
	"13 locations":                            `cascade TestMembers_TagRelocateAndDrop, cmd/skyd TestNodeCommands_Session`,
	"14 retention of a dead node":             `cascade TestKeeper_DropsTheDeadAfterTheirRetention`,
	"15 merge cascades":                       `cascade TestMerge_TakeoverOfTheCombinedRootKilledAtEveryStep, cascade TestMergeLeaf, e2e TestMixed_MergeLeafs`,

	"W1 rerun after a crash at the promotion":       `cascade TestSwitchover_KilledAtEveryStep, cascade TestAdopt_TakeoverOfTheOriginalKilledAfterEveryCall`,
	"W2 writers with old snapshots":                 `pgqsql TestNode_NobodyWritesBehindTheFinalTick, cascade TestSwitchover_ThereAndBackUnderLoad`,
	"W3 candidate behind a sibling":                 `cascade TestFailover_BehindSiblingAndReturn`,
	"W4 dead branch":                                `cascade TestTakeover_DeadBranch`,
	"W5 everybody moves, to a node behind":          `cascade TestTakeover_All, cascade TestTakeover_BranchAll, cascade TestChangeProvider_ToANodeBehindLeavesAllAsItWas`,
	"W6 waits without an end":                       `cascade TestSwitchover_Refusals, cascade TestPause_HandshakeAndTimeout`,
	"W7 checks before writes stop":                  `cascade TestSwitchover_Refusals`,
	"W8 returned root":                              `cascade TestFailover_BehindSiblingAndReturn`,
	"W9 resurrect":                                  `cascade TestFailover_BehindSiblingAndReturn, cmd/skyd TestNodeResurrect_SavesWhatNeverLeft`,
	"W10 status, tag-alive, show-consumers, rename": `cascade TestTopology_WithDeadAndSilentMembers, cascade TestMembers_TagRelocateAndDrop, cascade TestRename_GoesOnAfterEachStep, cmd/skyd TestNodeCommands_Session`,
	"W11 counters of branches":                      `pgqsql TestNode_PromotedBranchCountsOn, cascade TestCreate_BranchBeginsAtTheProvidersTick, cascade TestWorkerKilled`,
	"W12 unknown types":                             `cascade TestSpecialEventsStopNobody`,
	"W13 paused worker ends":                        `cascade TestPauseIsSeen, actors TestNode_StepsAndTells`,
	"W14 pause in the sleep after an error":         `actors TestNode_AttendsWhileItWaits, cascade TestErrorsAreNoted`,
	"W15 two commands at once":                      `cascade TestAlone_CommandsAtTheSameTime, cascade TestAlone_NoRing, cascade TestAlone_NamesTheHolder, e2e TestDrivers_FrozenAndRevived, cascade TestFailover_OvertakenDriverEndsNothing`,
	"W16 changed address":                           `cascade TestMembers_TagRelocateAndDrop`,
	"W17 plain consumers of a dead node":            `cascade TestConsumerFollows, cascade TestTakeover_All`,
	"W18 crashed create":                            `cascade TestCreate_GoesOnAfterEachStep, cascade TestCreate_TakesOverTheGhostOfAnother`,
	"W19 secrets":                                   `cmd/skyd TestNodeCommands_Session`,
	"W20 who holds rotation":                        `cascade TestTopology_WithDeadAndSilentMembers, cascade TestKeeper_DropsTheDeadAfterTheirRetention`,
	"W21 watermark backwards":                       `pgqsql TestNode_WatermarkGoesBackWithAWarning`,
}

// TestPromises_HaveTheirTests keeps the table true to the tests there are.
func TestPromises_HaveTheirTests(t *testing.T) {
	t.Parallel()
	name := regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
	have := map[string]bool{}
	for promise, tests := range promises {
		for test := range strings.SplitSeq(tests, ",") {
			dir, _, ok := strings.Cut(strings.TrimSpace(test), " ")
			if !ok {
				t.Fatalf("%s: %q has no directory", promise, test)
			}
			if !have[dir] {
				have[dir] = true
				files, _ := filepath.Glob(filepath.Join("..", dir, "*_test.go"))
				for _, file := range files {
					text, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					for _, m := range name.FindAllSubmatch(text, -1) {
						have[dir+" "+string(m[1])] = true
					}
				}
			}
			if !have[strings.TrimSpace(test)] {
				t.Errorf("%s: there is no test %s", promise, strings.TrimSpace(test))
			}
		}
	}
}
