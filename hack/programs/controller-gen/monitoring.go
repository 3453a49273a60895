// Package monitoring imports the types of the Prometheus Operator, from which controller-gen makes its CRDs.
package monitoring

import _ "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
