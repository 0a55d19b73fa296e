package fsm

//go:generate go test . -run "TestTransitions|TestTruthTable|TestTranscripts|TestMachines" -update
