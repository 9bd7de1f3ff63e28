"""Every span attribute, declared once. No other module spells such a key."""

from __future__ import annotations

from typing import Final

__all__ = ["Attr", "phase_attribute"]


class Attr:
    """Span attribute keys. No key is a prefix of another (OpenTelemetry naming rules)."""

    FRAMEWORK: Final = "ecolyzer.framework"
    OPERATION: Final = "ecolyzer.operation"
    DEVICE: Final = "ecolyzer.device"
    BATCH_SIZE: Final = "ecolyzer.batch.size"
    BATCH_JOULES: Final = "ecolyzer.batch.joules"
    WARMUP: Final = "ecolyzer.warmup"
    MODEL_NAME: Final = "ecolyzer.model.name"
    MODEL_PARAMETERS: Final = "ecolyzer.model.parameters"
    MODEL_EFFECTIVE_PARAMETERS: Final = "ecolyzer.model.effective_parameters"
    MODEL_DTYPE: Final = "ecolyzer.model.dtype"
    MODEL_QUANTIZATION_FACTOR: Final = "ecolyzer.model.quantization_factor"
    ENERGY_JOULES: Final = "ecolyzer.energy.joules"
    ENERGY_ACTIVE_JOULES: Final = "ecolyzer.energy.active_joules"
    ENERGY_IDLE_JOULES: Final = "ecolyzer.energy.idle_joules"
    ENERGY_CPU_JOULES: Final = "ecolyzer.energy.cpu_joules"
    ENERGY_GPU_JOULES: Final = "ecolyzer.energy.gpu_joules"
    ENERGY_DRAM_JOULES: Final = "ecolyzer.energy.dram_joules"
    ENERGY_UNCERTAINTY_JOULES: Final = "ecolyzer.energy.uncertainty_joules"
    ENERGY_METHOD: Final = "ecolyzer.energy.method"
    ENERGY_BASIS: Final = "ecolyzer.energy.basis"
    ENERGY_CPU_METHOD: Final = "ecolyzer.energy.cpu_method"
    ENERGY_GPU_METHOD: Final = "ecolyzer.energy.gpu_method"
    ENERGY_GPU_ACTIVITY: Final = "ecolyzer.energy.gpu_activity"
    ENERGY_PREFILL_JOULES: Final = "ecolyzer.energy.prefill_joules"
    ENERGY_DECODE_JOULES: Final = "ecolyzer.energy.decode_joules"
    ENERGY_OUTPUT_TOKEN_JOULES: Final = "ecolyzer.energy.output_token_joules"  # noqa: S105 - tokens of text
    FIRST_TOKEN_SECONDS: Final = "ecolyzer.first_token.seconds"  # noqa: S105 - tokens of text
    CO2E_GRAMS: Final = "ecolyzer.co2e.grams"
    CO2E_OPERATIONAL_GRAMS: Final = "ecolyzer.co2e.operational_grams"
    CO2E_EMBODIED_GRAMS: Final = "ecolyzer.co2e.embodied_grams"
    CO2E_UNCERTAINTY_GRAMS: Final = "ecolyzer.co2e.uncertainty_grams"
    CO2E_MARKET_GRAMS: Final = "ecolyzer.co2e.market_grams"
    CO2E_MARGINAL_GRAMS: Final = "ecolyzer.co2e.marginal_grams"
    SCI_REQUEST_GRAMS: Final = "ecolyzer.sci.request_grams"
    SCI_MILLION_TOKENS_GRAMS: Final = "ecolyzer.sci.million_tokens_grams"
    WATER_LITERS: Final = "ecolyzer.water.liters"
    WATER_ONSITE_LITERS: Final = "ecolyzer.water.onsite_liters"
    WATER_OFFSITE_LITERS: Final = "ecolyzer.water.offsite_liters"
    WATER_LOW_LITERS: Final = "ecolyzer.water.low_liters"
    WATER_HIGH_LITERS: Final = "ecolyzer.water.high_liters"
    WATER_METHOD: Final = "ecolyzer.water.method"
    WATER_SOURCE: Final = "ecolyzer.water.source"
    THERMAL_CELSIUS: Final = "ecolyzer.thermal.celsius"
    THERMAL_MAX_CELSIUS: Final = "ecolyzer.thermal.max_celsius"
    THERMAL_THROTTLED: Final = "ecolyzer.thermal.throttled"
    THERMAL_REASONS: Final = "ecolyzer.thermal.reasons"
    THERMAL_DEVICES: Final = "ecolyzer.thermal.devices"
    THERMAL_DEVICE_CELSIUS: Final = "ecolyzer.thermal.device_celsius"
    THERMAL_DEVICE_MAX_CELSIUS: Final = "ecolyzer.thermal.device_max_celsius"
    ESS: Final = "ecolyzer.ess"
    ITEM_ESS: Final = "ecolyzer.item.ess"
    GRID_ZONE: Final = "ecolyzer.grid.zone"
    GRID_GRAMS_PER_KWH: Final = "ecolyzer.grid.grams_per_kwh"
    GRID_BASIS: Final = "ecolyzer.grid.basis"
    GRID_SOURCE: Final = "ecolyzer.grid.source"
    GRID_YEAR: Final = "ecolyzer.grid.year"
    GRID_TIME: Final = "ecolyzer.grid.time"
    GRID_ESTIMATED: Final = "ecolyzer.grid.estimated"
    GRID_DEFAULTED: Final = "ecolyzer.grid.defaulted"
    PUE: Final = "ecolyzer.pue"
    WUE: Final = "ecolyzer.wue"
    GEN_AI_OPERATION: Final = "gen_ai.operation.name"
    GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
    GEN_AI_MODEL: Final = "gen_ai.request.model"
    GEN_AI_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
    GEN_AI_TEMPERATURE: Final = "gen_ai.request.temperature"
    GEN_AI_TOP_P: Final = "gen_ai.request.top_p"
    GEN_AI_TOP_K: Final = "gen_ai.request.top_k"
    GEN_AI_CHOICES: Final = "gen_ai.request.choice.count"
    GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
    INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
    ERROR_TYPE: Final = "error.type"
    HTTP_ROUTE: Final = "http.route"


def phase_attribute(phase: str) -> str | None:
    """The attribute for the joules of a phase: ``ecolyzer.energy.decode_joules``.

    None where the phase has no name, or one that the attributes of the request itself use (``idle``).
    """
    name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in phase.lower())
    key = f"ecolyzer.energy.{name}_joules"
    taken = {value for name, value in vars(Attr).items() if not name.startswith("_")}
    phases = (Attr.ENERGY_PREFILL_JOULES, Attr.ENERGY_DECODE_JOULES)
    return key if name.strip("_") and (key in phases or key not in taken) else None
