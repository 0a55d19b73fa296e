package fsm

// Result is the value of resource 5/0/5, the Update Result. Unknown numbers are kept, and shown as
// digits.
//
// As the Result of an [Update], ResultDefault means that the update is active.
type Result int

// The Update Results of Object 5: 0 to 9 since version 1.0, 10 and 11 since 1.1.
const (
	ResultDefault         Result = 0
	ResultSuccess         Result = 1
	ResultNoStorage       Result = 2
	ResultOutOfMemory     Result = 3
	ResultConnectionLost  Result = 4
	ResultIntegrityFailed Result = 5
	ResultUnsupFirmware   Result = 6
	ResultInvalidURI      Result = 7
	ResultUpdateFailed    Result = 8
	ResultUnsupProtocol   Result = 9
	ResultCancelled       Result = 10
	ResultDeferred        Result = 11
)

// resultNames also has those of the Advanced Firmware Update object (33629), 12 and 13, for
// journals.
var resultNames = []string{
	"default", "success", "no_storage", "out_of_mem", "connection_lost",
	"integrity_failed", "unsup_fw", "invalid_uri", "update_failed",
	"unsup_proto", "cancelled", "deferred", "conflicting_state",
	"dependency_error",
}

// String returns the name in lower case, such as "no_storage".
func (r Result) String() string { return numberName(resultNames, int(r)) }

// MarshalText returns the name in lower case.
func (r Result) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText accepts a name in any letter case, or a number.
func (r *Result) UnmarshalText(text []byte) error {
	n, err := parseNumber(resultNames, "result", string(text))
	if err != nil {
		return err
	}
	*r = Result(n)
	return nil
}
