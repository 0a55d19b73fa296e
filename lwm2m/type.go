package lwm2m

// Type is a data type of LwM2M (Core specification, appendix C), both of a
// [Value] and of a resource in a [ResourceModel].
type Type uint8

// The data types. TypeNone is the type of the zero [Value] and of resources
// that can only be executed. TypeNull is that of a value that asks for removal
// in a Write-Composite.
const (
	TypeNone Type = iota
	TypeString
	TypeInteger
	TypeUnsigned
	TypeFloat
	TypeBoolean
	TypeOpaque
	TypeTime
	TypeObjectLink
	TypeCoreLink
	TypeNull
)

var typeNames = [...]string{
	TypeNone: "none", TypeString: "String", TypeInteger: "Integer", TypeUnsigned: "Unsigned Integer",
	TypeFloat: "Float", TypeBoolean: "Boolean", TypeOpaque: "Opaque", TypeTime: "Time",
	TypeObjectLink: "Objlnk", TypeCoreLink: "Corelnk", TypeNull: "null",
}

// String returns the type's name in the registry of objects, such as "Integer".
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "unknown"
}
