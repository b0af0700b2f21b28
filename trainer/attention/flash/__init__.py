from trainer.attention.flash.attend import flash_attention as flash_attention
