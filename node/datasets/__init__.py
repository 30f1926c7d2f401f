"""The data registry: gets the sources that manifests name, checks them, and keeps canonical blobs by root."""

from node.datasets.errors import DatasetError
from node.datasets.registry import fetch, find_blob, find_manifest, load_dataset, load_dataset_by_root

__all__ = ["DatasetError", "fetch", "find_blob", "find_manifest", "load_dataset", "load_dataset_by_root"]
