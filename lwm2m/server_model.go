package lwm2m

// Model returns the model of an object in the version that the device registered, else in the
// newest version that [ServerConfig.Models] have. It is shared: do not change it.
func (s *Server) Model(endpoint string, object uint16) (*ObjectModel, bool) {
	r, _ := s.Registration(endpoint)
	if o, ok := s.config.Models.Object(object, r.Objects().Version(object)); ok {
		return o, true
	}
	return s.config.Models.Object(object, Version{})
}
