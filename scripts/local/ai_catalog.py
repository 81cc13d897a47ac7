"""The Workers AI models the emulator knows: their shape, context window and whether they think by default."""

from dataclasses import dataclass
from typing import Literal

DEFAULT_CONTEXT_TOKENS = 131_072
NATIVE_MAX_TOKENS = 256  # what a native model stops at when not told otherwise


@dataclass(frozen=True, slots=True)
class AiModel:
    shape: Literal["native", "openai", "embedding"]
    context_tokens: int = DEFAULT_CONTEXT_TOKENS
    is_thinking: bool = False


NATIVE = AiModel("native")
OPENAI = AiModel("openai")
THINKING = AiModel("openai", is_thinking=True)

# Facts, sections 4.2, 4.6 and 4.7.
MODELS = {
    "@cf/ibm-granite/granite-4.0-h-micro": AiModel("native", 131_000),
    "@cf/meta/llama-3.1-8b-instruct": NATIVE,
    "@cf/meta/llama-3.1-8b-instruct-fast": NATIVE,
    "@cf/meta/llama-3.1-8b-instruct-fp8": NATIVE,
    "@cf/meta/llama-3.1-8b-instruct-fp8-fast": NATIVE,
    "@cf/meta/llama-3.2-1b-instruct": AiModel("native", 60_000),
    "@cf/meta/llama-3.2-3b-instruct": AiModel("native", 80_000),
    "@cf/meta/llama-3.2-11b-vision-instruct": NATIVE,
    "@cf/meta/llama-3.3-70b-instruct-fp8-fast": AiModel("native", 24_000),
    "@cf/meta/llama-4-scout-17b-16e-instruct": NATIVE,
    "@cf/mistralai/mistral-small-3.1-24b-instruct": NATIVE,
    "@cf/mistral/mistral-7b-instruct-v0.2-lora": NATIVE,
    "@cf/deepseek-ai/deepseek-r1-distill-qwen-32b": NATIVE,
    "@cf/qwen/qwen2.5-coder-32b-instruct": NATIVE,
    "@cf/qwen/qwq-32b": NATIVE,
    "@cf/qwen/qwen3-30b-a3b-fp8": AiModel("openai", 32_768, is_thinking=True),
    "@cf/qwen/qwen3.8-27b": AiModel("openai", 262_144, is_thinking=True),
    "@cf/zai-org/glm-4.7-flash": THINKING,
    "@cf/zai-org/glm-5.2": THINKING,
    "@cf/zai-org/glm-5.3": THINKING,
    "@cf/zai-org/glm-5.3-flash": AiModel("openai", 1_310_720, is_thinking=True),
    "@cf/google/gemma-4-26b-a4b-it": AiModel("openai", 256_000, is_thinking=True),
    "@cf/openai/gpt-oss-20b": THINKING,
    "@cf/openai/gpt-oss-120b": THINKING,
    "@cf/deepseek-ai/deepseek-v4-flash-0731": THINKING,
    "@cf/deepseek-ai/deepseek-v4-pro-0813": THINKING,
    "@cf/nvidia/nemotron-3-120b-a12b": THINKING,
    "@cf/moonshotai/kimi-k2.6": THINKING,
    "@cf/moonshotai/kimi-k2.7-code": THINKING,
    "@cf/baai/bge-small-en-v1.5": AiModel("embedding", 512),
}
