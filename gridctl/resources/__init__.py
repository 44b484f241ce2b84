"""The kinds an operator declares: frozen structs with units in their names, ranges and defaults. No I/O here."""

from gridctl.resources.cluster import Cluster, ClusterSpec, Deployment, EngineLimits
from gridctl.resources.gate import Gate, GateSpec
from gridctl.resources.gpu import BUILTIN_GPUS, Gpu, GpuSpec
from gridctl.resources.link import Link, LinkSpec
from gridctl.resources.model import Architecture, Model, ModelSpec, Variant
from gridctl.resources.policy import Policy, PolicyOverride, PolicySpec, Telemetry
from gridctl.resources.pricebook import ApiFallback, PriceBook, PriceBookSpec
from gridctl.resources.profile import (
    ChunkKnot,
    DecodeRow,
    FitError,
    Profile,
    ProfileRange,
    ProfileSpec,
)
from gridctl.resources.resource import API_VERSION, KINDS, Metadata, Resource, ResourceKey, key_of, kind_named
from gridctl.resources.site import Serverless, Site, SiteSpec
from gridctl.resources.workload import CachePolicy, JurisdictionRule, Objective, Traffic, Workload, WorkloadSpec

__all__ = [
    "API_VERSION",
    "BUILTIN_GPUS",
    "KINDS",
    "ApiFallback",
    "Architecture",
    "CachePolicy",
    "ChunkKnot",
    "Cluster",
    "ClusterSpec",
    "DecodeRow",
    "Deployment",
    "EngineLimits",
    "FitError",
    "Gate",
    "GateSpec",
    "Gpu",
    "GpuSpec",
    "JurisdictionRule",
    "Link",
    "LinkSpec",
    "Metadata",
    "Model",
    "ModelSpec",
    "Objective",
    "Policy",
    "PolicyOverride",
    "PolicySpec",
    "PriceBook",
    "PriceBookSpec",
    "Profile",
    "ProfileRange",
    "ProfileSpec",
    "Resource",
    "ResourceKey",
    "Serverless",
    "Site",
    "SiteSpec",
    "Telemetry",
    "Traffic",
    "Variant",
    "Workload",
    "WorkloadSpec",
    "key_of",
    "kind_named",
]
