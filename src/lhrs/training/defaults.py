"""What the papers' stages train and with which numbers; a run file says only what differs.

Sources: LHRS-Bot is arXiv:2402.02544 and its released code (branch `main`, `Config/multi_modal_stage{1,2,3}.yaml`,
`Script/*.sh`, `main_pretrain_stage*.py`); LHRS-Bot-Nova is arXiv:2411.09301 and branch `nova` of the same repository.
Where paper and code disagree, the code counts, since it made the released weights. Batch sizes are per optimizer step:
images per GPU times their 8 GPUs. What we do otherwise on purpose is said at the number.
"""

from typing import Any

from lhrs.inference.families.lhrs_bot import LhrsBot
from lhrs.inference.families.lhrs_bot_nova import LhrsBotNova

PRESET = {"lhrs-bot": "lhrs-bot-7b", "lhrs-bot-nova": "lhrs-bot-nova-8b"}
"""The parts that each system joins, by name in `lhrs.models.presets`."""

_LORA = {"rank": 128, "alpha": 256, "dropout": 0.05}  # both: stage-2 yaml, section `lora`; every linear but the head
_COMMON: dict[str, Any] = {"bf16": True, "gradient_checkpointing": True}  # LHRS-Bot used fp16; bf16 needs no loss scale

# LHRS-Bot: AdamW with betas and epsilon of the stage-2 and stage-3 yaml; no weight decay in any stage
_BOT_ADAMW = {"optimizer": "adamw", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.0, "max_grad_norm": 1.0}
# Nova: one optimizer setting in all three yaml files, weight decay apart
_NOVA_ADAMW = {"optimizer": "adamw", "betas": [0.9, 0.95], "eps": 1e-6, "max_grad_norm": 1.0, "min_lr": 2e-5}

STAGES: dict[tuple[str, int], dict[str, Any]] = {
    # Alignment on captions. The language model is frozen here; in the released code its blocks keep gradients that no
    # optimizer uses.
    ("lhrs-bot", 1): {
        **_COMMON,
        "template": "plain",  # image, caption, newline; the question is left out (`cap_dataset.py`)
        "train": ["bridge"],
        "fit": {
            "optimizer": "adan",  # timm's Adan with the proximal weight decay (`adanp`); betas and epsilon are timm's
            "betas": [0.98, 0.92, 0.99],
            "eps": 1e-8,
            "weight_decay": 0.0,
            "max_grad_norm": 0.3,
            "lr": 2e-4,
            "min_lr": 2e-5,
            "warmup_steps": 300,  # the yaml's `warmup_epochs` counts iterations
            "warmup_start": 0.1,
            "batch_size": 64,  # 8 x 8
            "epochs": 1.0,
        },
    },
    # Multi-task instructions; bridge and a new LoRA. They kept the frozen language model in 8 bits to fit 8 GPUs.
    ("lhrs-bot", 2): {
        **_COMMON,
        "template": "llava_llama_2",
        "system_prompt": LhrsBot.system_prompt,  # of LLaVA's Llama-2 template, before every conversation
        "train": ["bridge", "lora"],
        "lora": _LORA,
        "fit": {
            **_BOT_ADAMW,
            "lr": 2e-4,
            "min_lr": 8e-5,
            "warmup_steps": 100,
            "warmup_start": 0.01,
            "batch_size": 32,  # 8 x 4
            "epochs": 1.0,
        },
    },
    # Reasoning; the bridge rests, the LoRA goes on, and data sets are drawn by weight for a fixed number of steps.
    ("lhrs-bot", 3): {
        **_COMMON,
        "template": "llava_llama_2",
        "system_prompt": LhrsBot.system_prompt,  # of LLaVA's Llama-2 template, before every conversation
        "train": ["lora"],
        "lora": _LORA,
        "fit": {
            **_BOT_ADAMW,
            "lr": 1e-4,
            "min_lr": 8e-5,
            "warmup_steps": 100,
            "warmup_start": 0.01,
            "batch_size": 32,  # 8 x 4
            "steps": 1200,  # the yaml's `epochs` counts iterations in this stage
        },
    },
    # Alignment on long captions; the encoder learns too, ten times slower than the bridge. Its rate equals the floor
    # of the cosine, so it stays constant after the warm-up.
    ("lhrs-bot-nova", 1): {
        **_COMMON,
        "template": "plain",
        "train": ["vision_tower", "bridge"],
        "fit": {
            **_NOVA_ADAMW,
            "weight_decay": 0.0,
            "lr": 2e-4,
            "vision_lr": 2e-5,
            "warmup_steps": 300,
            "warmup_start": 0.1,
            "batch_size": 128,  # 8 x 16
            "epochs": 1.0,
        },
    },
    # Multi-task instructions. The bridge gets 4 experts, 2 per token. The released experts lack an activation and no
    # balance loss is used; ours start as exact copies of the dense feed-forward and are balanced (arXiv:2101.03961).
    ("lhrs-bot-nova", 2): {
        **_COMMON,
        "template": "llama3",
        "system_prompt": LhrsBotNova.system_prompt,
        "train": ["bridge", "lora"],
        "lora": _LORA,
        "experts": {"num": 4, "top_k": 2, "balance_weight": 0.01},
        "fit": {
            **_NOVA_ADAMW,
            "weight_decay": 0.01,
            "lr": 1e-4,
            "warmup_steps": 100,
            "warmup_start": 0.1,
            "batch_size": 64,  # 8 x 8
            "epochs": 1.0,
        },
    },
    # The same parts on other data, a whole epoch of it.
    ("lhrs-bot-nova", 3): {
        **_COMMON,
        "template": "llama3",
        "system_prompt": LhrsBotNova.system_prompt,
        "train": ["bridge", "lora"],
        "lora": _LORA,
        "experts": {"num": 4, "top_k": 2, "balance_weight": 0.01},
        "fit": {
            **_NOVA_ADAMW,
            "weight_decay": 0.01,
            "lr": 1e-4,
            "warmup_steps": 1,
            "warmup_start": 0.1,
            "batch_size": 64,  # 8 x 8
            "epochs": 1.0,
        },
    },
}
