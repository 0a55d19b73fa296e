package lwm2m

import "slices"

// writeFormats returns the formats in which to write entries at path, the likeliest first: a single value as plain text or
// bytes, which every client knows, all else as instances go.
func writeFormats(r Registration, path Path, entries []Entry) []ContentFormat {
	rest := instanceFormats(r)
	if len(entries) != 1 || entries[0].Path != path || path.Len() < 3 {
		return rest
	}
	if entries[0].Value.Type() == TypeOpaque {
		// Not as text: some clients take base64 for what it stands for, others for the bytes themselves.
		return append([]ContentFormat{FormatOpaque}, rest...)
	}
	return append([]ContentFormat{FormatText}, append(rest, FormatCBOR)...)
}

// instanceFormats returns the formats in which to write several values, the likeliest first.
func instanceFormats(r Registration) []ContentFormat {
	if r.Version == (Version{Major: 1}) {
		return announcedFirst(r, FormatTLV, FormatJSON)
	}
	return announcedFirst(r, FormatSenMLCBOR, FormatTLV, FormatSenMLJSON, FormatLwM2MCBOR)
}

// compositeFormats returns the formats for composite requests, the likeliest first.
func compositeFormats(r Registration) []ContentFormat {
	return announcedFirst(r, FormatSenMLCBOR, FormatSenMLJSON, FormatLwM2MCBOR)
}

// announcedFirst puts the formats that the device announced before the others.
func announcedFirst(r Registration, formats ...ContentFormat) []ContentFormat {
	announced := r.Objects().Formats
	slices.SortStableFunc(formats, func(a, b ContentFormat) int {
		return rank(announced, a) - rank(announced, b)
	})
	return formats
}

func rank(announced []ContentFormat, f ContentFormat) int {
	if slices.Contains(announced, f) {
		return 0
	}
	return 1
}
