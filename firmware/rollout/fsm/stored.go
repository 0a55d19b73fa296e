package fsm

import "github.com/otago-iot/otago/internal/record"

func init() {
	record.Enum(StateDraft, StateRunning, StatePaused, StateStopping, StateEnded)
	record.Enum(ReasonTrip, ReasonOperator, ReasonEndAt, ReasonDone, ReasonStage)
	record.Enum(StageFilling, StageSoaking, StageChecking, StageGate, StageHealth)
	record.Enum(CoversInstall, CoversAll)
	record.Enum(MemberWaiting, MemberActive, MemberSucceeded, MemberFailed, MemberRolledBack, MemberSkipped)
	record.Enum(PlaceInvited, PlaceReserved, PlaceStarting, PlaceTransferring, PlaceReady, PlaceInstalling, PlaceAway, PlaceParked)
	record.Enum(EndingSucceeded, EndingCurrent, EndingFailed, EndingRolledBack, EndingTimedOut, EndingAway, EndingCancelled, EndingIncompatible)
	record.Enum(SkipCurrent, SkipIncompatible, SkipNotComparable, SkipRemoved, SkipCancelled, SkipUnreachable)
}
