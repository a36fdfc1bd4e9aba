// volumes provisions PersistentVolumes as folders of the node, for a StorageClass whose provisioner it is.
//
// The volumes are of the type "local": unlike hostPath, the kubelet then applies a pod's fsGroup, so a folder that belongs to root
// becomes writable for the pod's group as a cloud's disk does. A claim's size is not enforced.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	root := flag.String("root", "", "folder that holds the volumes")
	name := flag.String("provisioner", "", "provisioner name of the StorageClass")
	flag.Parse()
	if *kubeconfig == "" || *root == "" || *name == "" {
		fmt.Fprintln(os.Stderr, "volumes: -kubeconfig, -root and -provisioner are required")
		os.Exit(2)
	}
	if err := run(*kubeconfig, *root, *name); err != nil {
		fmt.Fprintln(os.Stderr, "volumes:", err)
		os.Exit(1)
	}
}

func run(kubeconfig, root, name string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	provisioner := &folders{root: root}
	controller.NewProvisionController(stop, client, name, provisioner, controller.LeaderElection(false)).Run(stop)
	return nil
}

// folders makes one folder a volume, named after the PersistentVolume, directly below root.
type folders struct {
	root string
}

func (f *folders) path(volume string) string {
	return filepath.Join(f.root, filepath.Base(volume))
}

// Provision makes the folder. Repeating it for the same volume is harmless.
func (f *folders) Provision(_ context.Context, options controller.ProvisionOptions) (
	*corev1.PersistentVolume, controller.ProvisioningState, error) {
	claim := options.PVC.Spec
	if claim.VolumeMode != nil && *claim.VolumeMode == corev1.PersistentVolumeBlock {
		return nil, controller.ProvisioningFinished, fmt.Errorf("spec.volumeMode: this class has no block volumes: use Filesystem")
	}
	if claim.Selector != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("spec.selector: this class makes new volumes only: leave it out")
	}
	if options.SelectedNodeName == "" {
		return nil, controller.ProvisioningFinished, fmt.Errorf("no node is selected: the StorageClass needs volumeBindingMode WaitForFirstConsumer")
	}
	path := f.path(options.PVName)
	// 0755 and root: writable through fsGroup only, as on a real disk. A laxer mode would hide a missing fsGroup.
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, controller.ProvisioningFinished, err
	}
	return f.volume(options, path), controller.ProvisioningFinished, nil
}

func (f *folders) volume(options controller.ProvisionOptions, path string) *corev1.PersistentVolume {
	filesystem := corev1.PersistentVolumeFilesystem
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: options.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *options.StorageClass.ReclaimPolicy,
			AccessModes:                   options.PVC.Spec.AccessModes,
			VolumeMode:                    &filesystem,
			Capacity: corev1.ResourceList{
				corev1.ResourceStorage: options.PVC.Spec.Resources.Requests[corev1.ResourceStorage],
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: path}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
				NodeSelectorTerms: []corev1.NodeSelectorTerm{{
					MatchExpressions: []corev1.NodeSelectorRequirement{{
						Key:      corev1.LabelHostname,
						Operator: corev1.NodeSelectorOpIn,
						Values:   []string{options.SelectedNodeName},
					}},
				}},
			}},
		},
	}
}

// Delete removes the folder of a volume that this program made: a PersistentVolume whose path is another's is left alone.
func (f *folders) Delete(_ context.Context, volume *corev1.PersistentVolume) error {
	path := f.path(volume.Name)
	if volume.Spec.Local == nil || volume.Spec.Local.Path != path {
		return &controller.IgnoredError{Reason: "its path is not " + path}
	}
	return os.RemoveAll(path)
}
